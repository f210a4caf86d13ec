"""What every backend offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..ops import Clock
from ..plan import Buffer, Plan

Arrays = Mapping[str, Any]
_ON_GPU = (2, 13)  # DLPack's numbers for CUDA memory, plain and managed


class NonFiniteError(FloatingPointError):
    """The objective of a step is not finite."""

    def __init__(self, op: str) -> None:
        super().__init__(f"{op}: the objective is not finite")


def lies_on_gpu(value: Any) -> bool:
    """Whether value is an array in the memory of a CUDA device: CuPy's, or another library's that speaks DLPack."""
    if type(value) is np.ndarray or not hasattr(value, "__dlpack_device__"):
        return False
    try:
        return int(value.__dlpack_device__()[0]) in _ON_GPU
    except (TypeError, ValueError, RuntimeError, BufferError):  # no array of real numbers: the door says so
        return False


def empty_beside(device: Any, arrays: Iterable[Any]) -> Callable[..., Any]:
    """What makes the outputs of a call from a shape and a dtype: on the device (None: there is none) if any of these arrays
    of the caller's lies there, else in main memory."""
    return device.xp.empty if device is not None and any(map(device.owns, arrays)) else np.empty


class Bound(ABC):
    """A plan bound to a capacity of rows and to the storage of its weights. One thread at a time may run it."""

    plan: Plan
    capacity: int
    bytes = 0  # of memory of its own
    device: Any = None  # where it runs, if that is no CPU

    @abstractmethod
    def run(self, arrays: Arrays, clock: Clock) -> None:
        """One pass over ``clock.rows`` rows. `arrays` holds every input and output of the plan, C-contiguous and of its
        dtype, in main memory or on the device; the outputs are filled."""

    @abstractmethod
    def train(self, arrays: Arrays, progress: np.ndarray, seed: int, data_rows: int, batch: int, steps: int) -> None:
        """`steps` passes over successive minibatches of at most `batch` of `data_rows` rows. progress, int64 (step, epoch,
        offset), says where to begin and moves on with every whole step. Raises NonFiniteError at the first step whose
        objective is not finite."""

    def stacked(self) -> Callable[..., tuple[np.ndarray, ...]]:
        """A plan of one input as ``f(x)`` or ``f(x, out)``: each element of the leading dimensions of x (..., *shape) is a
        row. Returns a tuple of all outputs, with the same leading dimensions, where x lies."""
        (source,), made = self.plan.of_role("input"), self.plan.of_role("output")

        def call(x: np.ndarray, out: tuple[np.ndarray, ...] | None = None) -> tuple[np.ndarray, ...]:
            lead = x.shape[: x.ndim + 1 - len(source.shape)]
            empty = empty_beside(self.device, (x,))
            out = out or tuple(empty(lead + b.array_shape(1)[1:], b.dtype) for b in made)
            self.run({source.name: x, **{b.name: a for b, a in zip(made, out)}}, Clock(rows=math.prod(lead)))
            return out

        return call


class Backend(ABC):
    """Keeps the states of plans, and binds plans. A weight is the array (out, in + 1), the bias its last column, kept in a
    layout of the backend's own; any other state is kept as it is."""

    name: str
    device: Any = None  # where it computes, if that is no CPU: see ``device.Device``
    capacities: tuple[int, ...] = (1, 16, 128, 1024)  # rows that plans are bound for, where calls bring any number
    xp: Any = np  # the module of the arrays that it computes on

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

    def serves(self, plan: Plan) -> bool:
        """Whether it has kernels for every call of a plan."""
        return True

    def lane(self) -> int:
        """What a bound plan that waits for the next call must have been bound under, beside the capacity."""
        return 0

    def keep(self, array: np.ndarray) -> np.ndarray:
        """An array where the backend computes: itself, or a copy on the device."""
        return array

    def home(self, array: np.ndarray) -> np.ndarray:
        """An array in main memory: itself, or a copy of one on the device."""
        return array
