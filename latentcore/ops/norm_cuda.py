"""The squared norm of a gradient on the GPU."""

from __future__ import annotations

from .launches import Emitter, Operand, divide_up, tl, triton_kernel
from .tiles_cuda import BLOCK, sum_of

_CHUNK = 8 * BLOCK  # elements that a program sums


@triton_kernel
def norm_forward_chunk(sums, g, n, ACCUMULATE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """sums[chunk] (+)= the squares of a chunk of a weight as it lies; its padding is 0."""
    chunk = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, CHUNK, BLOCK):
        place = chunk * CHUNK + begin + tl.arange(0, BLOCK)
        v = tl.load(g + place, place < n, other=0.0).to(tl.float64)
        total += v * v
    result = tl.sum(total, 0)
    if ACCUMULATE:
        result += tl.load(sums + chunk)
    tl.store(sums + chunk, result)


@triton_kernel
def norm_forward_total(squared, sums, n, ACCUMULATE: tl.constexpr, BLOCK: tl.constexpr):
    """squared (+)= the sum of the chunks, by one program."""
    result = sum_of(sums, n, BLOCK)
    if ACCUMULATE:
        result += tl.load(squared)
    tl.store(squared, result)


def norm_forward(emit: Emitter, squared: Operand, g: Operand, *, accumulate: bool) -> None:
    """A program for each chunk, and one more where there are several."""
    size = (g.dims[1][0] + 1) * g.pitch
    chunks, options = divide_up(size, _CHUNK), {"CHUNK": _CHUNK, "BLOCK": BLOCK}
    if chunks == 1:
        emit(norm_forward_chunk, 1, sums=squared, g=g, n=size, ACCUMULATE=bool(accumulate), **options)
        return
    sums = emit.scratch(chunks)
    emit(norm_forward_chunk, chunks, sums=sums, g=g, n=size, ACCUMULATE=False, **options)
    emit(norm_forward_total, 1, squared=squared, sums=sums, n=chunks, ACCUMULATE=bool(accumulate), BLOCK=BLOCK)


LAUNCHES = {"norm_forward": norm_forward}
