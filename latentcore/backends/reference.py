"""NumPy in float64: runs the ops' references. Slow, and the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import OPS, Clock
from ..plan import Buffer, Plan
from .base import Arrays, Backend, Bound, NonFiniteError


class ReferenceBackend(Backend):
    """States are float64 arrays; weights (out, in + 1)."""

    name = "reference"

    def allocate(self, buffer: Buffer) -> np.ndarray:
        out, *rest = buffer.array_shape(0)
        return np.zeros((out, rest[0] + 1) if buffer.layout == "weight" else (out, *rest))

    def put(self, storage: np.ndarray, array: np.ndarray) -> None:
        storage[...] = array

    def get(self, storage: np.ndarray, buffer: Buffer) -> np.ndarray:
        return np.array(storage)

    def bind(self, plan: Plan, capacity: int, state: Arrays, threads: int | None = None) -> ReferenceBound:
        return ReferenceBound(plan, capacity, state)


def _poisoned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """What no op may read before another wrote it: NaN, or row numbers beyond any data."""
    return np.full(shape, 2**32 - 1, np.uint32) if dtype == "uint32" else np.full(shape, np.nan)


class ReferenceBound(Bound):
    def __init__(self, plan: Plan, capacity: int, state: Arrays) -> None:
        self.plan, self.capacity = plan, capacity
        self._state = {b.name: state[b.name] for b in plan.of_role("state")}

    def run(self, arrays: Arrays, clock: Clock) -> None:
        if not 0 <= clock.rows <= self.capacity:
            raise ValueError(f"rows: expected at most {self.capacity}, got {clock.rows}")
        steps = clock.iteration + 1
        values: dict[str | None, Any] = {None: None}
        values.update(self._state)
        for b in self.plan.buffers.values():
            if b.role == "temporary" and b.layout == "weight":
                values[b.name] = np.full((b.array_shape(0)[0], b.array_shape(0)[1] + 1), np.nan)
            elif b.role in ("temporary", "output") and b.layout == "array":
                kept = arrays[b.name] if "steps" in b.shape else None
                values[b.name] = _poisoned(b.array_shape(clock.rows, steps), b.dtype) if kept is None else kept
            elif b.role != "state":
                array = arrays[b.name]
                if b.layout == "array":
                    array = array.reshape(-1)[: b.elements(clock.rows, steps)].reshape(b.array_shape(clock.rows, steps))
                values[b.name] = array.astype(np.float64) if array.dtype == np.float32 else array
        for call in self.plan.calls:
            op = OPS[call.op]
            timing = {"clock": clock} if op.timed else {}
            try:
                with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                    op.reference(*(values[a] for a in call.arguments), **timing, **call.options)
            except FloatingPointError as error:
                raise NonFiniteError(str(error)) from None
        for b in self.plan.of_role("output"):
            if values[b.name] is not arrays[b.name]:
                arrays[b.name].reshape(-1)[: values[b.name].size] = values[b.name].reshape(-1)

    def train(self, arrays: Arrays, progress: np.ndarray, seed: int, data_rows: int, batch: int, steps: int) -> None:
        for iteration in range(steps):
            step, epoch, offset = map(int, progress)
            rows = min(batch, data_rows - offset)
            before = {name: storage.copy() for name, storage in self._state.items()}
            try:
                self.run(arrays, Clock(rows, step, epoch, offset, iteration, 0, seed))
                last = offset + rows >= data_rows
                progress[:] = step + 1, epoch + last, 0 if last else offset + rows
            except BaseException:  # Ctrl-C comes anywhere; whole steps alone are kept
                if progress[0] == step:
                    for name, storage in before.items():
                        self._state[name][...] = storage
                raise
