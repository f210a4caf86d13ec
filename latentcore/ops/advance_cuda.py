"""The end of a training step on the GPU: the clock moves on, so that a recorded step can be replayed without the host."""

from __future__ import annotations

from .launches import BATCH, DATA_ROWS, EPOCH, ITERATION, OFFSET, ROWS, STATUS, STEP, Emitter, tl, triton_kernel

_PLACES = (ROWS, STEP, EPOCH, OFFSET, ITERATION, STATUS, DATA_ROWS, BATCH)
_ROWS, _STEP, _EPOCH, _OFFSET, _ITERATION, _STATUS, _DATA_ROWS, _BATCH = map(tl.constexpr, _PLACES) if tl else _PLACES


@triton_kernel
def advance_clock(clock):
    """To the next minibatch, unless the run has ended early."""
    if tl.load(clock + _STATUS) == 0:
        data_rows = tl.load(clock + _DATA_ROWS)
        offset = tl.load(clock + _OFFSET) + tl.load(clock + _ROWS)
        last = offset >= data_rows
        offset = tl.where(last, 0, offset)
        tl.store(clock + _STEP, tl.load(clock + _STEP) + 1)
        tl.store(clock + _EPOCH, tl.load(clock + _EPOCH) + last.to(tl.int64))
        tl.store(clock + _OFFSET, offset)
        tl.store(clock + _ITERATION, tl.load(clock + _ITERATION) + 1)
        tl.store(clock + _ROWS, tl.minimum(tl.load(clock + _BATCH), data_rows - offset))


def advance(emit: Emitter) -> None:
    """One thread's work."""
    emit(advance_clock, 1, threads=32)
