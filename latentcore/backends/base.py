"""What every backend offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..ops import Clock
from ..plan import Buffer, Plan

Arrays = Mapping[str, Any]


class NonFiniteError(FloatingPointError):
    """The objective of a step is not finite."""

    def __init__(self, op: str) -> None:
        super().__init__(f"{op}: the objective is not finite")


class Bound(ABC):
    """A plan bound to a capacity of rows and to the storage of its weights. One thread at a time may run it."""

    plan: Plan
    capacity: int
    bytes = 0  # of memory of its own

    @abstractmethod
    def run(self, arrays: Arrays, clock: Clock) -> None:
        """One pass over ``clock.rows`` rows. `arrays` holds every input and output of the plan, C-contiguous and of its
        dtype; the outputs are filled."""

    @abstractmethod
    def train(self, arrays: Arrays, progress: np.ndarray, seed: int, data_rows: int, batch: int, steps: int) -> None:
        """`steps` passes over successive minibatches of at most `batch` of `data_rows` rows. progress, int64 (step, epoch,
        offset), says where to begin and moves on with every whole step. Raises NonFiniteError at the first step whose
        objective is not finite."""

    def stacked(self) -> Callable[..., tuple[np.ndarray, ...]]:
        """A plan of one input as ``f(x)`` or ``f(x, out)``: each element of the leading dimensions of x (..., *shape) is a
        row. Returns a tuple of all outputs, with the same leading dimensions."""
        (source,), made = self.plan.of_role("input"), self.plan.of_role("output")

        def call(x: np.ndarray, out: tuple[np.ndarray, ...] | None = None) -> tuple[np.ndarray, ...]:
            lead = x.shape[: x.ndim + 1 - len(source.shape)]
            out = out or tuple(np.empty(lead + b.array_shape(1)[1:], b.dtype) for b in made)
            self.run({source.name: x, **{b.name: a for b, a in zip(made, out)}}, Clock(rows=math.prod(lead)))
            return out

        return call


class Backend(ABC):
    """Keeps the states of plans, and binds plans. A weight is the array (out, in + 1), the bias its last column, kept in a
    layout of the backend's own; any other state is kept as it is."""

    name: str

    @abstractmethod
    def allocate(self, buffer: Buffer) -> Any:
        """Zeroed storage for a state."""

    @abstractmethod
    def put(self, storage: Any, array: np.ndarray) -> None:
        """Stores the array of a state."""

    @abstractmethod
    def get(self, storage: Any, buffer: Buffer) -> np.ndarray:
        """The array that was stored, as a copy."""

    @abstractmethod
    def bind(self, plan: Plan, capacity: int, state: Arrays, threads: int | None = None) -> Bound:
        """Binds a plan to storage by name for at most `capacity` rows. threads: None means the package's setting."""
