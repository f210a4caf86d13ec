"""Means and Gram matrices of groups of rows on the GPU: a program for each tile of each group."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import OUT_OF_RANGE, STATUS, Emitter, Operand, divide_up, tl, triton_kernel
from .moments_cuda import RUN, STEP, column_sums, gram_sum, tile_of

_STATUS, _OUT_OF_RANGE = (tl.constexpr(STATUS), tl.constexpr(OUT_OF_RANGE)) if tl else (STATUS, OUT_OF_RANGE)


@triton_kernel
def covariance_tile(
    clock, mean, gram, x, begin, end, r, n, f, RUN: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr
):
    """A tile of the lower triangle and its mirror image; those on the diagonal store the mean. A group outside the data
    ends the run."""
    group, a, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if (group < extent(clock, r)) & (a >= b):
        first, last = tl.load(begin + group).to(tl.int64), tl.load(end + group).to(tl.int64)
        valid = (first <= last) & (last <= extent(clock, n))
        if not valid:
            tl.store(clock + _STATUS, _OUT_OF_RANGE)
        first, last = tl.where(valid, first, 0).to(tl.int32), tl.where(valid, last, 0).to(tl.int32)
        row, column = a * TILE + tl.arange(0, TILE), b * TILE + tl.arange(0, TILE)
        of_rows, rows = column_sums(x, None, first, last, row, f, STEP, TILE)
        of_columns, same = column_sums(x, None, first, last, column, f, STEP, TILE)
        place = group.to(tl.int64) * f
        if a == b:
            tl.store(mean + place + row, of_rows / rows, row < f)
        square = gram_sum(x, None, first, last, row, column, f, of_rows / rows, of_columns / same, RUN, STEP, TILE)
        lower = (row < f)[:, None] & (row[:, None] >= column[None, :])
        above = (row < f)[:, None] & (row[:, None] > column[None, :])
        tl.store(gram + (place + row)[:, None] * f + column[None, :], square, lower)
        tl.store(gram + (place + column)[None, :] * f + row[:, None], square, above)


def covariance_forward(emit: Emitter, mean: Operand, gram: Operand, x: Operand, begin: Operand, end: Operand) -> None:
    """Groups by tiles."""
    f = x.dims[1][0]
    tile = tile_of(f)
    across = divide_up(f, tile)
    emit(
        covariance_tile, emit.most(begin.size(0)), across, across, threads=256 if tile == 64 else 128, mean=mean, gram=gram,
        x=x, begin=begin, end=end, r=begin.size(0), n=x.size(0), f=f, RUN=RUN, STEP=STEP, TILE=tile,
    )  # fmt: skip


LAUNCHES = {"covariance_forward": covariance_forward}
