"""Runs plans over any number of rows, on bound plans that wait for the next call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ops import Clock
from ..plan import Plan, size_of
from .base import Backend, Bound
from .cpu import get_num_threads

_CAPACITIES = (1, 16, 128, 1024)
_IDLE = 4  # bound plans of one kind that wait for the next call


class Runner:
    """A backend and the storage that plans are bound to. Safe to call from several threads: each call takes a bound plan
    of its own."""

    def __init__(self, backend: Backend, state: Mapping[str, Any]) -> None:
        self.backend, self.state = backend, state
        self._idle: dict[Any, tuple[Plan, list[Bound]]] = {}

    def __call__(self, plan: Plan, inputs: Mapping[str, np.ndarray], n: int, clock: Clock) -> dict[str, np.ndarray]:
        """Runs a plan over n rows, in slices where they are many. A row's result does not depend on the slices."""
        outputs = {b.name: np.empty(b.array_shape(n), b.dtype) for b in plan.of_role("output")}
        arrays = {**inputs, **outputs}
        times = {b.name: size_of(b.shape[0])[0] for b in plan.buffers.values() if "rows" in str(b.shape[0])}
        most = max(1, _CAPACITIES[-1] // max(times.values()))
        capacity = min(most, next((c for c in _CAPACITIES if c >= n), most))
        # The plan is kept with its bound copies, so that no other plan gets its identity.
        _, idle = self._idle.setdefault((id(plan), capacity, get_num_threads()), (plan, []))
        try:
            bound = idle.pop()
        except IndexError:
            bound = self.backend.bind(plan, capacity, self.state)
        try:
            first = clock.offset
            for begin in range(0, n, capacity):
                end = min(n, begin + capacity)
                piece = {k: a[begin * times[k] : end * times[k]] if k in times else a for k, a in arrays.items()}
                clock.rows, clock.offset = end - begin, first + begin
                bound.run(piece, clock)
        finally:
            if len(idle) < _IDLE:
                idle.append(bound)
        return outputs
