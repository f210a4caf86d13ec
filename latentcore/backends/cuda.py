"""The GPU: a bound plan is its launches over one arena, recorded once for each set of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from ..ops import OPS, Clock
from ..ops.advance_cuda import advance
from ..ops.launches import (
    CLOCK,
    CLOCK_SIZE,
    EPOCH,
    NOT_FINITE,
    OFFSET,
    PITCH,
    SCRATCH,
    STATUS,
    STEP,
    Emitter,
    Launch,
    launches_of,
    round_up,
)  # fmt: skip
from ..ops.tiles_cuda import power_of_two
from ..plan import Buffer, Plan
from .base import Arrays, Backend, Bound, NonFiniteError
from .binaries import ALIGNED
from .device import Device

_LINE = 256  # what the buffers of the arena are aligned to, in bytes
_RECORDED = 8  # sets of arrays, by where they lie: outputs that a caller holds take turns
_ENDING = {"objective_forward", "gather_forward", "affine_forward", "covariance_forward"}  # what may end a run early


class CudaBackend(Backend):
    """A weight (out, in + 1) lies transposed, (1, in + 1, pitch): the bias as the last row, each row padded with zeros."""

    capacities = (1, 16, 128, 1024, 16384)

    def __init__(self, device: Device, precision: str = "ieee") -> None:
        """precision: of the products of float32 matrices, "ieee" or "tf32"."""
        self.name = "cuda" if precision == "ieee" else f"cuda:{precision}"
        self.device, self.xp, self.precision = device, device.xp, precision

    def allocate(self, buffer: Buffer) -> Any:
        storage = self.device.zeros(_shape(buffer), buffer.dtype)
        self.device.wait()  # whoever is given it may work on another stream
        return storage

    def put(self, storage: Any, array: np.ndarray) -> None:
        host = np.zeros(storage.shape, str(storage.dtype))
        if storage.shape == array.shape:  # a weight has a dimension more
            host[...] = array
        else:
            host[0, :, : len(array)] = array.T
        self.device.write(storage, host)
        self.device.wait()

    def get(self, storage: Any, buffer: Buffer) -> np.ndarray:
        host = self.device.read(storage)
        return np.ascontiguousarray(host[0, :, : buffer.array_shape(0)[0]].T) if buffer.layout == "weight" else host

    def bind(self, plan: Plan, capacity: int, state: Arrays, threads: int | None = None) -> CudaBound:
        return CudaBound(self.device, plan, capacity, state, self.precision)

    def serves(self, plan: Plan) -> bool:
        try:
            launches_of(plan, 1)
        except NotImplementedError:
            return False
        return True

    def lane(self) -> int:
        return self.device.stream() << 8 | self.device.number()  # type: ignore[no-any-return]

    def keep(self, array: np.ndarray) -> np.ndarray:
        if not self.device.owns(array):
            return self.xp.asarray(array)  # type: ignore[no-any-return]
        return array if self.device.address(array) % ALIGNED == 0 else array.copy()

    def home(self, array: np.ndarray) -> np.ndarray:
        return self.device.read(array) if self.device.owns(array) else array


def _shape(buffer: Buffer, rows: int = 0, steps: int = 1) -> tuple[int, ...]:
    """The shape of a buffer's storage."""
    if buffer.layout == "array":
        return buffer.array_shape(rows, steps)
    out, inputs = buffer.array_shape(0)
    return 1, inputs + 1, round_up(out, PITCH)


class CudaBound(Bound):
    def __init__(self, device: Device, plan: Plan, capacity: int, state: Arrays, precision: str) -> None:
        self.plan, self.capacity, self.device = plan, capacity, device
        self._number = device.number()
        self._launches = launches_of(plan, capacity, precision)
        self._may_end = any(call.op in _ENDING for call in plan.calls)
        states = {b.name: self._state(b.name, state[b.name]) for b in plan.of_role("state")}
        # What it writes to outlives a run: Ctrl-C must not come between its kernels.
        self._whole = any(name in states for call in plan.calls for name in call.arguments[: OPS[call.op].outputs])
        self._clock = device.zeros((CLOCK_SIZE,), "int64")
        temporary = plan.of_role("temporary")
        sizes = [round_up(prod(_shape(b, capacity)) * np.dtype(b.dtype).itemsize, _LINE) for b in temporary]
        arena = device.zeros((sum(sizes),), "uint8")
        self._fixed: dict[str, Any] = {CLOCK.name: self._clock, **states}
        for b, end, size in zip(temporary, accumulate(sizes), sizes):
            shape = _shape(b, capacity)
            piece = arena[end - size : end - size + prod(shape) * np.dtype(b.dtype).itemsize]
            self._fixed[b.name] = piece.view(b.dtype).reshape(shape)
        operands = [o for launch in self._launches for o in launch.operands() if o.name.startswith(SCRATCH)]
        scratch = {o.name: device.zeros((o.dims[0][0],), o.dtype) for o in {o.name: o for o in operands}.values()}
        self._fixed |= scratch
        self._external = [b for b in plan.buffers.values() if b.role in ("input", "output")]
        self._staged: dict[str, Any] = {}
        self._recorded: dict[tuple[int, ...], Callable[[], None]] = {}
        self._told: list[int] | None = None  # what the clock says
        self.bytes = sum(sizes) + sum(array.nbytes for array in scratch.values())
        device.wait()  # it may run on another stream

    def _state(self, name: str, array: Any) -> Any:
        try:
            return self.device.take(array)
        except ValueError as error:
            raise ValueError(f"backend 'cuda': {name}: {error}") from None

    def run(self, arrays: Arrays, clock: Clock) -> None:
        if not 0 <= clock.rows <= self.capacity:
            raise ValueError(f"rows: expected at most {self.capacity}, got {clock.rows}")
        c = clock
        self._tell([c.rows, c.step, c.epoch, c.offset, c.iteration, c.sample, c.seed, 0, 0, 0], kept=not self._may_end)
        self._go(arrays, c.rows, self._launches, 1)
        if self._may_end:
            self._check(int(self.device.read(self._clock)[STATUS]))

    def train(self, arrays: Arrays, progress: np.ndarray, seed: int, data_rows: int, batch: int, steps: int) -> None:
        step, epoch, offset = map(int, progress)
        rows = min(batch, data_rows - offset)
        emit = Emitter(self.capacity)
        advance(emit)
        # First of all: whatever fails then, the clock says how far it came.
        self._tell([rows, step, epoch, offset, 0, 0, seed, 0, data_rows, batch], kept=False)
        try:
            self._go(arrays, rows, [*self._launches, *emit.launches], steps)
        finally:
            clock = self.device.read(self._clock)
            progress[:] = clock[[STEP, EPOCH, OFFSET]]
        self._check(int(clock[STATUS]))

    def _tell(self, clock: list[int], kept: bool) -> None:
        """Sets the clock. kept: the launches leave it as it is."""
        number = self.device.number()
        if number != self._number:
            raise ValueError(
                f"backend 'cuda': plan {self.plan.name!r} is bound to GPU {self._number}, and the current one is {number}"
            )
        if clock != self._told:
            self._told = None
            self.device.write(self._clock, np.array(clock, np.uint64).view(np.int64))
        self._told = clock if kept else None

    def _go(self, arrays: Arrays, rows: int, launches: Sequence[Launch], times: int) -> None:
        """Runs the launches so many times and brings the outputs home."""
        device = self.device
        bound = {b.name: self._at_hand(b, arrays[b.name], rows, times) for b in self._external}
        at = (len(launches), *map(device.address, bound.values()))
        run = self._recorded.get(at)
        if run is None:
            if len(self._recorded) == _RECORDED:
                del self._recorded[next(iter(self._recorded))]
            run = self._recorded[at] = device.record(launches, {**self._fixed, **bound}, self._whole)
        for _ in range(times):
            run()
        at_home = [b.role for b in self._external if not device.owns(arrays[b.name])]
        for b in self._external:
            home = arrays[b.name]
            if b.role == "output" and bound[b.name] is not home:
                size = b.elements(rows, times) if b.layout == "array" else home.size
                made, home = bound[b.name].reshape(-1)[:size], home.reshape(-1)[:size]
                if device.owns(home):
                    device.write(home, made)
                else:
                    home[...] = device.read(made)
        if at_home and "output" not in at_home:
            device.wait()  # the caller may write to its arrays again

    def _at_hand(self, b: Buffer, array: Any, rows: int, steps: int) -> Any:
        """An array of the caller's, or, if it does not lie on the device and aligned, its place there."""
        device = self.device
        if device.owns(array) and device.address(array) % ALIGNED == 0:
            return array
        shape = _shape(b, self.capacity, power_of_two(steps))  # a recording serves as many steps and fewer
        staged = self._staged.get(b.name)
        if staged is None or staged.size < prod(shape):
            staged = self._staged[b.name] = device.zeros(shape, b.dtype)
        if b.role == "input" or "steps" in b.shape:
            size = b.elements(rows, steps)
            device.write(staged.reshape(-1)[:size], array.reshape(-1)[:size])
        return staged

    def _check(self, status: int) -> None:
        if status == NOT_FINITE:
            raise NonFiniteError("objective_forward")
        if status:
            raise IndexError("a row number lies outside the data")
