"""A plan of one input as a function of stacks of arrays, on bound plans that wait for the next call."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np

from ..plan import Plan
from .base import Backend, Bound, empty_beside

# A run works on so many rows at most, and about so many FLOPs: Ctrl-C is heard between runs.
_ROWS, _FLOPS = 2**17, 4e9
# For how many plans are bound below that, where the grids of launches cover all that a plan is bound for.
_LEVELS = (1, 32, 256, 2048, 16384)
# What may wait for the next call: so many bytes in all, and in one bound plan.
_WAITING, _LARGEST = 2**26, 2**25

# What was bound to wait, the oldest first. No lock guards it, which a fork could leave taken.
_bound: deque[_Ready] = deque()


class _Ready:
    """A bound plan as a function, and where it waits."""

    def __init__(self, bound: Bound, idle: list[_Ready]) -> None:
        self.run, self.bytes, self.idle = bound.stacked(), bound.bytes, idle
        self.waits = self.bytes <= _LARGEST

    def drop(self) -> None:
        self.waits = False
        if self in self.idle:
            self.idle.remove(self)


class Batched:
    """Runs a plan of one input (rows, *shape), and of two outputs or more, over arrays (..., *shape): each element of the
    leading dimensions is a row. Safe to call from several threads: each call takes a bound plan of its own."""

    def __init__(self, backend: Backend, plan: Plan) -> None:
        self._backend, self._plan, self._lane = backend, plan, backend.lane
        self._size = plan.of_role("input")[0].elements(1)
        flops = sum(plan.cost(call, 1)[0] for call in plan.calls)
        most = 32
        while most < _ROWS and 2 * most * flops <= _FLOPS:
            most *= 2
        levels = (1, 32) if backend.device is None else _LEVELS
        self._capacities = (*(c for c in levels if c < most), most)
        self._last = len(self._capacities) - 1
        self._idle: dict[tuple[int, int], list[_Ready]] = {}

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """All outputs, where x lies, for x C-contiguous, aligned, of the input's dtype and not empty."""
        rows = x.size // self._size
        kind = bisect_left(self._capacities, rows, 0, self._last), self._lane()
        idle = self._idle.get(kind)
        if idle is None:
            idle = self._idle.setdefault(kind, [])
        try:
            ready = idle.pop()
        except IndexError:
            ready = self._bind(self._capacities[kind[0]], idle)
        try:
            return ready.run(x) if rows <= self._capacities[-1] else self._sliced(ready, x, rows)
        finally:
            if ready.waits:
                idle.append(ready)

    def _sliced(self, ready: _Ready, x: np.ndarray, rows: int) -> tuple[np.ndarray, ...]:
        source, most = self._plan.of_role("input")[0], self._capacities[-1]
        lead = x.shape[: x.ndim + 1 - len(source.shape)]
        x = x.reshape(source.array_shape(rows))
        empty = empty_beside(self._backend.device, (x,))
        out = [empty(b.array_shape(rows), b.dtype) for b in self._plan.of_role("output")]
        for begin in range(0, rows, most):
            ready.run(x[begin : begin + most], tuple(a[begin : begin + most] for a in out))
        return tuple(a.reshape(lead + a.shape[1:]) for a in out)

    def _bind(self, capacity: int, idle: list[_Ready]) -> _Ready:
        ready = _Ready(self._backend.bind(self._plan, capacity, {}), idle)
        if ready.waits:
            _bound.append(ready)
            excess = sum(each.bytes for each in list(_bound)) - _WAITING
            while excess > 0:
                oldest = _bound.popleft()
                oldest.drop()
                excess -= oldest.bytes
        return ready
