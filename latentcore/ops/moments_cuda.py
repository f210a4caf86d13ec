"""Moments on the GPU. The rows are cut into shares, by the number of features and of rows alone: sums of each share, the
mean of all, Gram matrices of the shares about it, and the sum of these and of the state."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import Emitter, Operand, device_function, divide_up, tl, triton_kernel

RUN = 64  # rows whose products are added up in the plan's dtype
STEP = 32  # of them at a time
_PROGRAMS = 512  # that the Gram matrix is cut into, if it is small
_SHARES = 256  # of the rows, at most
_ELEMENTS = 8192  # that a program of 256 threads adds up


def side_of(features: int) -> int:
    """The rows and columns of a tile of a Gram matrix."""
    return 16 if features <= 16 else 32 if features <= 32 else 64


def threads_of(tile: int) -> int:
    """The threads that sum a tile."""
    return 256 if tile == 64 else 128


def shares_of(features: int) -> int:
    """Into how many shares the rows are cut, a power of two."""
    across = divide_up(features, side_of(features))
    return min(_SHARES, 1 << max(1, 2 * _PROGRAMS // (across * (across + 1))).bit_length() - 1)


@device_function
def halves(middle, x):
    """A mean in float64 as the sum of two numbers of x's dtype."""
    high = middle.to(x.dtype.element_ty)
    return high, (middle - high.to(tl.float64)).to(x.dtype.element_ty)


@device_function
def centred(x, weight, row, last, column, f, high, low):
    """The rows before `last` less the mean high + low, by the roots of their weights; zeros after them."""
    inside = (row < last)[:, None] & (column < f)[None, :]
    value = tl.load(x + row.to(tl.int64)[:, None] * f + column[None, :], inside, other=0.0)
    value = (value - high[None, :]) - low[None, :]
    if weight is not None:
        value = value * tl.sqrt(tl.load(weight + row, row < last, other=0.0)).to(value.dtype)[:, None]
    return tl.where(inside, value, 0.0)


@device_function
def column_sums(x, weight, first, last, column, f, STEP: tl.constexpr, COLUMNS: tl.constexpr):
    """The sums of columns of the rows first .. last by their weights, and of the weights, in float64."""
    total = tl.zeros((STEP, COLUMNS), tl.float64)
    counted = tl.zeros((STEP,), tl.float64)
    for begin in range(first, last, STEP):
        row = begin + tl.arange(0, STEP)
        inside = (row < last)[:, None] & (column < f)[None, :]
        value = tl.load(x + row.to(tl.int64)[:, None] * f + column[None, :], inside, other=0.0).to(tl.float64)
        if weight is not None:
            w = tl.load(weight + row, row < last, other=0.0)
        else:
            w = (row < last).to(tl.float64)
        total += value * w[:, None]
        counted += w
    return tl.sum(total, 0), tl.sum(counted, 0)


@device_function
def gram_sum(x, weight, first, last, m, n, f, middle_m, middle_n, RUN: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr):
    """Rows m and columns n of the Gram matrix of the rows first .. last about a mean, in float64."""
    high_m, low_m = halves(middle_m, x)
    high_n, low_n = halves(middle_n, x)
    total = tl.zeros((TILE, TILE), tl.float64)
    for begin in range(first, last, RUN):
        run = tl.zeros((TILE, TILE), x.dtype.element_ty)
        for start in range(begin, begin + RUN, STEP):
            row = start + tl.arange(0, STEP)
            left = centred(x, weight, row, last, m, f, high_m, low_m)
            right = centred(x, weight, row, last, n, f, high_n, low_n)
            run = tl.dot(tl.trans(left), right, run, input_precision="ieee", out_dtype=run.dtype)
        total += run.to(tl.float64)
    return total


@device_function
def share(rows, part, shares, RUN: tl.constexpr):
    """The first row of a share and the one behind its last: whole runs."""
    length = ((rows + shares - 1) // shares + RUN - 1) // RUN * RUN
    first = tl.minimum(part * length, rows)
    return first, tl.minimum(first + length, rows)


@triton_kernel
def moments_sum(clock, sums, counts, x, weight, r, f, shares, RUN: tl.constexpr, STEP: tl.constexpr, COLUMNS: tl.constexpr):
    """The sums of the columns of each share: sums[shares, f], counts[shares]."""
    part = tl.program_id(0)
    first, last = share(extent(clock, r), part, shares, RUN)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total, counted = column_sums(x, weight, first, last, column, f, STEP, COLUMNS)
    tl.store(sums + part * f + column, total, column < f)
    if tl.program_id(1) == 0:
        tl.store(counts + part, counted)


@triton_kernel
def moments_mean(
    count, mean, sums, counts, middle, step, merged, f, parts,
    ACCUMULATE: tl.constexpr, SHARES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """middle[f]: the mean of these rows; step[f]: what it lies away from that of the state. The mean of both. merged: the
    count of the state, that of both, and the weight of step step' in the Gram matrix."""
    part = tl.arange(0, SHARES)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    added = tl.sum(tl.load(counts + part, part < parts, other=0.0), 0)
    inside = (part < parts)[:, None] & (column < f)[None, :]
    total = tl.sum(tl.load(sums + part[:, None] * f + column[None, :], inside, other=0.0), 0)
    if ACCUMULATE:
        before = tl.load(count)
    else:
        before = added * 0.0
    old = tl.where(before != 0, tl.load(mean + column, column < f, other=0.0), 0.0)
    some = added != 0
    both = before + added
    here = tl.where(some, total / tl.where(some, added, 1.0), old)
    away = here - old
    portion = added / tl.where(some, both, 1.0)
    tl.store(middle + column, here, column < f)
    tl.store(step + column, away, column < f)
    tl.store(mean + column, old + portion * away, column < f)
    if tl.program_id(0) == 0:
        tl.store(merged, before)
        tl.store(merged + 1, both)
        tl.store(merged + 2, before * portion)


@triton_kernel
def moments_gram(clock, parts, x, weight, middle, r, f, shares, RUN: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr):
    """The lower triangles of the Gram matrices of the shares: parts[shares, f, f]."""
    part, a, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if a >= b:
        first, last = share(extent(clock, r), part, shares, RUN)
        m, n = a * TILE + tl.arange(0, TILE), b * TILE + tl.arange(0, TILE)
        middle_m, middle_n = tl.load(middle + m, m < f, other=0.0), tl.load(middle + n, n < f, other=0.0)
        total = gram_sum(x, weight, first, last, m, n, f, middle_m, middle_n, RUN, STEP, TILE)
        place = (part * f + m[:, None]) * f + n[None, :]
        tl.store(parts + place, total, (m < f)[:, None] & (n < f)[None, :])


@triton_kernel
def moments_merge(count, gram, parts, step, merged, f, used, SHARES: tl.constexpr, BLOCK: tl.constexpr):
    """Elements of the Gram matrix: of the state, the shares that are used, and the step between their means."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i, j = place // f, place % f
    lower = tl.maximum(i, j) * f + tl.minimum(i, j)
    part = tl.arange(0, SHARES)
    inside = (part < used)[:, None] & (place < f * f)[None, :]
    added = tl.sum(tl.load(parts + part[:, None] * (f * f) + lower[None, :], inside, other=0.0), 0)
    before = tl.load(merged)
    old = tl.where(before != 0, tl.load(gram + place, place < f * f, other=0.0), 0.0)
    at_i, at_j = tl.load(step + i, i < f, other=0.0), tl.load(step + j, i < f, other=0.0)
    tl.store(gram + place, old + added + tl.load(merged + 2) * (at_i * at_j), place < f * f)
    if tl.program_id(0) == 0:
        tl.store(count, tl.load(merged + 1))


def moments_forward(
    emit: Emitter, count: Operand, mean: Operand, gram: Operand, x: Operand, weight: Operand | None, *, accumulate: bool
) -> None:
    """Shares of the rows, then columns, tiles of the shares, and elements."""
    r, f = x.size(0), x.dims[1][0]
    if f * f >= 2**31:
        raise OverflowError(f"moments_forward: expected at most 46340 features on the GPU, got {f}")
    tile, shares = side_of(f), shares_of(f)
    used, across, block = min(shares, divide_up(emit.most(r), RUN)), divide_up(f, tile), _ELEMENTS // shares
    columns = min(block, 256)
    sums, counts, parts = emit.scratch(used * f), emit.scratch(used), emit.scratch(used * f * f)
    middle, step, merged = emit.scratch(f), emit.scratch(f), emit.scratch(3)
    emit(
        moments_sum, used, across, sums=sums, counts=counts, x=x, weight=weight, r=r, f=f, shares=shares, RUN=RUN, STEP=STEP,
        COLUMNS=tile,
    )  # fmt: skip
    emit(
        moments_mean, divide_up(f, columns), threads=256, count=count, mean=mean, sums=sums, counts=counts, middle=middle,
        step=step, merged=merged, f=f, parts=used, ACCUMULATE=accumulate, SHARES=shares, COLUMNS=columns,
    )  # fmt: skip
    emit(
        moments_gram, used, across, across, threads=threads_of(tile), parts=parts, x=x, weight=weight, middle=middle, r=r,
        f=f, shares=shares, RUN=RUN, STEP=STEP, TILE=tile,
    )  # fmt: skip
    emit(
        moments_merge, divide_up(f * f, block), threads=256, count=count, gram=gram, parts=parts, step=step, merged=merged,
        f=f, used=used, SHARES=shares, BLOCK=block,
    )  # fmt: skip


LAUNCHES = {"moments_forward": moments_forward}
