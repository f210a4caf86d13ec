"""Means and Gram matrices of groups of rows on the GPU: a program for each block of columns, then for each tile, of each
group."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import OUT_OF_RANGE, STATUS, Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .moments_cuda import RUN, STEP, column_sums, gram_sum, side_of, threads_of

_STATUS, _OUT_OF_RANGE = (tl.constexpr(STATUS), tl.constexpr(OUT_OF_RANGE)) if tl else (STATUS, OUT_OF_RANGE)


@device_function
def bounds(clock, begin, end, group, n):
    """The rows of a group, none if it lies outside the data, and whether it lies inside."""
    first, last = tl.load(begin + group).to(tl.int64), tl.load(end + group).to(tl.int64)
    valid = (first <= last) & (last <= extent(clock, n))
    return tl.where(valid, first, 0).to(tl.int32), tl.where(valid, last, 0).to(tl.int32), valid


@triton_kernel
def covariance_mean(clock, mean, x, begin, end, r, n, f, STEP: tl.constexpr, COLUMNS: tl.constexpr):
    """The means of the groups. A group outside the data ends the run."""
    group, column = tl.program_id(0), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if group < extent(clock, r):
        first, last, valid = bounds(clock, begin, end, group, n)
        if not valid:
            tl.store(clock + _STATUS, _OUT_OF_RANGE)
        total, rows = column_sums(x, None, first, last, column, f, STEP, COLUMNS)
        tl.store(mean + group.to(tl.int64) * f + column, total / rows, column < f)


@triton_kernel
def covariance_gram(
    clock, gram, mean, x, begin, end, r, n, f, RUN: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """A tile of the lower triangle of a group, and its mirror image."""
    group, a, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if (group < extent(clock, r)) & (a >= b):
        first, last, _ = bounds(clock, begin, end, group, n)
        i, j = a * TILE + tl.arange(0, TILE), b * TILE + tl.arange(0, TILE)
        place = group.to(tl.int64) * f
        middle_i, middle_j = tl.load(mean + place + i, i < f, other=0.0), tl.load(mean + place + j, j < f, other=0.0)
        square = gram_sum(x, None, first, last, i, j, f, middle_i, middle_j, RUN, STEP, TILE)
        lower = (i < f)[:, None] & (i[:, None] >= j[None, :])
        tl.store(gram + (place + i)[:, None] * f + j[None, :], square, lower)
        tl.store(gram + (place + j)[None, :] * f + i[:, None], square, lower & (i[:, None] > j[None, :]))


def covariance_forward(emit: Emitter, mean: Operand, gram: Operand, x: Operand, begin: Operand, end: Operand) -> None:
    """Groups by blocks of columns, then by tiles."""
    f = x.dims[1][0]
    groups, tile = emit.most(begin.size(0)), side_of(f)
    across = divide_up(f, tile)
    emit(
        covariance_mean, groups, across, mean=mean, x=x, begin=begin, end=end, r=begin.size(0), n=x.size(0), f=f, STEP=STEP,
        COLUMNS=tile,
    )  # fmt: skip
    emit(
        covariance_gram, groups, across, across, threads=threads_of(tile), gram=gram, mean=mean, x=x, begin=begin, end=end,
        r=begin.size(0), n=x.size(0), f=f, RUN=RUN, STEP=STEP, TILE=tile,
    )  # fmt: skip


LAUNCHES = {"covariance_forward": covariance_forward}
