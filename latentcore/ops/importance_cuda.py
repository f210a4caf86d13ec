"""The importance-weighted bound and its gradient on the GPU."""

from __future__ import annotations

import math

from .elementary_cuda import exp, extent
from .launches import ITERATION, Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .tiles_cuda import WHOLE, block, piece, places, tile, tile_of, tiles_of

_ITERATION = tl.constexpr(ITERATION) if tl else ITERATION


@device_function
def _log_weights(loss, log_ratio, beta, mask, place):
    """Of the samples at these places; -infinity outside the mask."""
    w = beta * tl.load(log_ratio + place, mask, other=0.0) - tl.load(loss + place, mask, other=0.0)
    return tl.where(mask, w, -float("inf"))


@triton_kernel
def importance_forward_rows(
    clock, bound, weight, loss, log_ratio, beta, r, samples, log_samples,
    MEAN: tl.constexpr, M: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Whole rows, in float64: the largest of their log weights, the sum, the weights."""
    rows = extent(clock, r)
    now = tl.load(beta + tl.load(clock + _ITERATION))
    m, inside = block(rows, M)
    most = tl.full((M, W), -float("inf"), tl.float64)
    for begin in range(0, samples, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), samples)
        most = tl.maximum(most, _log_weights(loss, log_ratio, now, mask, place))
    largest = tl.max(most, 1)
    total = tl.zeros((M, W), tl.float64)
    for begin in range(0, samples, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), samples)
        w = _log_weights(loss, log_ratio, now, mask, place)
        total += tl.where(mask, exp(w - largest[:, None]), 0.0)
    sums = tl.sum(total, 1)
    # In float64 this logarithm is good to the last place on a GPU too, and knows NaN.
    tl.store(bound + m, log_samples - largest - tl.log(sums), inside)
    if weight is not None:
        scale = 1.0 / sums
        if MEAN:
            scale = scale / rows.to(tl.float64)
        for begin in range(0, samples, W):
            mask, place = piece(m, inside, begin + tl.arange(0, W), samples)
            w = _log_weights(loss, log_ratio, now, mask, place)
            tl.store(weight + place, exp(w - largest[:, None]) * scale[:, None], mask)


@triton_kernel
def importance_backward_tile(clock, d, weight, r, width, M: tl.constexpr, W: tl.constexpr):
    """Each row of d times its weight, in place."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, width)
    g = tl.load(d + place, inside, other=0.0)
    w = tl.load(weight + m, m < extent(clock, r), other=0.0).to(g.dtype)
    tl.store(d + place, g * w[:, None], inside)


def importance_forward(
    emit: Emitter, bound: Operand, weight: Operand | None, loss: Operand, log_ratio: Operand, beta: Operand,
    *, samples: int, mean_over_rows: bool,
) -> None:  # fmt: skip
    """Blocks of rows."""
    m, w = tile_of(int(samples), WHOLE)
    emit(
        importance_forward_rows, divide_up(emit.most(bound.size(0)), m), bound=bound, weight=weight, loss=loss,
        log_ratio=log_ratio, beta=beta, r=bound.size(0), samples=int(samples), log_samples=math.log(samples),
        MEAN=bool(mean_over_rows), M=m, W=w,
    )  # fmt: skip


def importance_backward(emit: Emitter, d: Operand, weight: Operand) -> None:
    """Tiles of d."""
    grid, sizes = tiles_of(emit, d)
    emit(importance_backward_tile, *grid, d=d, weight=weight, **sizes)


LAUNCHES = {f.__name__: f for f in (importance_forward, importance_backward)}
