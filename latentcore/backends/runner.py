"""Runs plans over any number of rows, on bound plans that wait for the next call."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ops import Clock, size_of
from ..plan import Plan
from .base import Backend, Bound, empty_beside

_IDLE = 4  # bound plans of one kind that wait for the next call


class Runner:
    """A backend and the storage that plans are bound to. Safe to call from several threads: each call takes a bound plan
    of its own."""

    def __init__(self, backend: Backend, state: Mapping[str, Any]) -> None:
        self.backend, self.state = backend, state
        self._device, self._lane = backend.device, backend.lane
        self._known: dict[int, _Known] = {}

    def __call__(self, plan: Plan, inputs: Mapping[str, np.ndarray], n: int, clock: Clock) -> dict[str, np.ndarray]:
        """Runs a plan over n rows, in slices where they are many. A row's result does not depend on the slices. Returns the
        outputs, on the device where any input lies there."""
        known = self._known.get(id(plan)) or self._known.setdefault(id(plan), _Known(plan, self.backend.capacities))
        empty = np.empty if self._device is None else empty_beside(self._device, inputs.values())
        outputs = {name: empty((times * n, *tail) if times else tail, t) for name, times, tail, t in known.outputs}
        arrays = {**inputs, **outputs}
        capacity = known.capacities[min(bisect_left(known.capacities, n), len(known.capacities) - 1)]
        idle = known.idle.setdefault((capacity, self._lane()), [])
        try:
            bound = idle.pop()
        except IndexError:
            bound = self.backend.bind(plan, capacity, self.state)
        try:
            if n <= capacity:
                clock.rows = n
                bound.run(arrays, clock)
            else:
                self._sliced(bound, arrays, known.times, n, clock)
        finally:
            if len(idle) < _IDLE:
                idle.append(bound)
        return outputs

    @staticmethod
    def _sliced(bound: Bound, arrays: Mapping[str, np.ndarray], times: Mapping[str, int], n: int, clock: Clock) -> None:
        first = clock.offset
        for begin in range(0, n, bound.capacity):
            end = min(n, begin + bound.capacity)
            piece = {k: a[begin * times[k] : end * times[k]] if k in times else a for k, a in arrays.items()}
            clock.rows, clock.offset = end - begin, first + begin
            bound.run(piece, clock)


class _Known:
    """What runs of a plan need to know of it, and its bound copies. It keeps the plan, so that no other one gets its
    identity."""

    def __init__(self, plan: Plan, capacities: tuple[int, ...]) -> None:
        self.plan = plan
        self.times = {b.name: size_of(b.shape[0])[0] for b in plan.buffers.values() if "rows" in str(b.shape[0])}
        self.outputs = [
            (b.name, self.times.get(b.name, 0), b.array_shape(1)[b.name in self.times :], np.dtype(b.dtype))
            for b in plan.of_role("output")
        ]
        most = max(1, capacities[-1] // max(self.times.values()))
        self.capacities = [*(c for c in capacities if c < most), most]
        self.idle: dict[tuple[int, int], list[Bound]] = {}
