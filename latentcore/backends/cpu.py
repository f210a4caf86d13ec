"""The C++ core: a bound plan is one call."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..ops import OPS, Clock, size_of
from ..plan import Buffer, Plan
from .base import Arrays, Backend, Bound, NonFiniteError

COMPRESSED = tuple(_core.compressed())  # ways to keep the weights of a plan of float32 in fewer bytes

# A run of more than about 100 microseconds gives up the GIL; giving it up costs milliseconds beside a busy thread.
GIL_FLOPS = 5_000_000

_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(threads: Any) -> None:
    """Sets how many threads a run may use; results do not depend on it. Raises ValueError unless it is 1 to 256."""
    global _threads
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 1 <= threads <= 256:
        raise ValueError(f"threads: expected an integer from 1 to 256, got {threads!r}")
    _threads = int(threads)


def get_num_threads() -> int:
    """How many threads a run may use: at first, as many as this process may run on."""
    return _threads


def aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A zeroed array whose first element starts a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _panels(buffer: Buffer) -> tuple[int, int, int]:
    """The shape of a weight in panels of 64 bytes."""
    out, inputs = buffer.array_shape(0)
    panel = 64 // np.dtype(buffer.dtype).itemsize
    return -(-out // panel), inputs + 1, panel


class Compressed(NamedTuple):
    """The storage of a weight that is kept in fewer bytes (see csrc/weights.h). kind: one of COMPRESSED."""

    kind: str
    data: np.ndarray


class CpuBackend(Backend):
    """Weights lie in panels (out / p, in + 1, p), p = 64 bytes; the bias is the last row of each. Those of a snapshot may be
    Compressed."""

    name = "cpu"

    def allocate(self, buffer: Buffer) -> np.ndarray:
        return aligned(_panels(buffer) if buffer.layout == "weight" else buffer.array_shape(0), buffer.dtype)

    def put(self, storage: np.ndarray, array: np.ndarray) -> None:
        if storage.shape == array.shape:  # panels have a dimension more than a weight
            storage[...] = array
            return
        _, columns, panel = storage.shape
        whole, rest = divmod(len(array), panel)
        storage[:whole] = array[: whole * panel].reshape(whole, panel, columns).transpose(0, 2, 1)
        if rest:
            storage[whole, :, :rest] = array[whole * panel :].T
            storage[whole, :, rest:] = 0

    def get(self, storage: np.ndarray, buffer: Buffer) -> np.ndarray:
        if buffer.layout == "array":
            return np.array(storage)
        panels, columns, panel = storage.shape
        plain = storage.transpose(0, 2, 1).reshape(panels * panel, columns)
        return np.ascontiguousarray(plain[: buffer.array_shape(0)[0]])

    @staticmethod
    def compress(array: np.ndarray, kind: str) -> Compressed:
        """Storage of a weight (out, in + 1), in one of COMPRESSED. Raises ValueError for numbers that float16 does not reach
        and for more inputs than int8_dynamic takes."""
        out, columns = array.shape
        packed = aligned((_core.weight_bytes(kind, out, columns - 1),), "uint8")
        _core.pack_weight(kind, np.ascontiguousarray(array, np.float32), packed)
        return Compressed(kind, packed)

    def lane(self) -> int:
        return _threads

    def bind(
        self, plan: Plan, capacity: int, state: Arrays, threads: int | None = None, instruction_set: str = "auto"
    ) -> CpuBound:
        try:
            return CpuBound(plan, capacity, state, threads or _threads, instruction_set)
        except MemoryError:
            raise MemoryError(f"{plan.name}: a run of {capacity} rows takes more memory than there is") from None


class CpuBound(Bound):
    def __init__(self, plan: Plan, capacity: int, state: Arrays, threads: int, instruction_set: str) -> None:
        self.plan, self.capacity, self.threads = plan, capacity, threads
        self.core = _core.BoundPlan(instruction_set, plan.dtype == "float64", capacity, threads)
        self._external = [b for b in plan.buffers.values() if b.role in ("input", "output")]
        self.index: dict[str | None, int] = {None: -1}
        for b in plan.buffers.values():
            self.index[b.name] = self._add(b, state)
        for call in plan.calls:
            op = OPS[call.op]
            sizes = plan.sizes(call)
            kept = [state[a] for a in call.arguments if a and a in state]
            self.core.add_call(
                ":".join([call.op, *(each.kind for each in kept if isinstance(each, Compressed))]),
                [self.index[a] for a in call.arguments],
                [(sizes[k][0], sizes[k][1] == "rows") for k in op.letters],
                op.option_numbers(call.options),
            )
        self.core.finish()
        self.bytes = self.core.arena_bytes
        self._flops_a_row = sum(plan.cost(call, capacity)[0] for call in plan.calls) / capacity

    def _add(self, b: Buffer, state: Arrays) -> int:
        if b.role == "state":
            held = state[b.name]
            return self.core.add_held(held.data if isinstance(held, Compressed) else held)
        if b.layout == "weight":
            size = math.prod(_panels(b)) * np.dtype(b.dtype).itemsize
            return self.core.add_temporary(size) if b.role == "temporary" else self.core.add_external(b.name, size, "")
        if b.role == "temporary":
            return self.core.add_temporary(min(b.bytes(self.capacity), 2**63 - 1))
        units = [unit for _, unit in map(size_of, b.shape) if unit]
        return self.core.add_external(b.name, b.bytes(1), units[0] if units else "")

    def _arrays(self, arrays: Arrays) -> list[Any]:
        return [arrays[b.name] for b in self._external]

    def releases_gil(self, rows: int) -> bool:
        """Whether a run over so many rows is long enough to give up the GIL."""
        return self._flops_a_row * rows > GIL_FLOPS

    def run(self, arrays: Arrays, clock: Clock) -> None:
        c = clock
        status = self.core.run(
            self._arrays(arrays), c.rows, c.step, c.epoch, c.offset, c.sample, c.seed, self.releases_gil(c.rows)
        )
        self._check(status)

    def train(self, arrays: Arrays, progress: np.ndarray, seed: int, data_rows: int, batch: int, steps: int) -> None:
        self._check(self.core.train(self._arrays(arrays), progress, seed, data_rows, batch, steps))

    def function(
        self, release_gil: bool | None = None, stacked: bool = False, weights: str | None = None, error_report: object = None
    ) -> _core.Function:
        """The plan of one input as one object to call. release_gil: None releases the GIL for long runs. stacked: arrays
        may have any number of leading dimensions. weights, error_report: attributes of the object."""
        rows = {None: int(GIL_FLOPS / max(self._flops_a_row, 1)) + 1, True: 0, False: 2**63 - 1}[release_gil]

        def port(b: Buffer, name: str) -> tuple[str, int, tuple[int, ...], np.dtype[Any]]:
            return name, self.index[b.name], b.array_shape(1)[1:], np.dtype(b.dtype)

        made = self.plan.of_role("output")
        outputs = [port(b, "out" if len(made) == 1 else f"out[{i}]") for i, b in enumerate(made)]
        source = port(self.plan.of_role("input")[0], "x")
        kept = weights or self.plan.dtype
        return self.core.function(self.plan.name, kept, source, outputs, rows, stacked, error_report)

    def stacked(self) -> _core.Function:
        return self.function(stacked=True)

    def _check(self, status: int) -> None:
        if status == _core.NOT_FINITE:
            raise NonFiniteError(self.core.failed_op)
        if status:
            raise IndexError(f"{self.core.failed_op}: a row number lies outside the data")
