"""The Gaussian loss and its gradients on the GPU."""

from __future__ import annotations

import math

from .elementary_cuda import exp, extent
from .kl_cuda import clamp_logvar
from .launches import PITCH, Emitter, Operand, divide_up, tl, triton_kernel
from .tiles_cuda import BLOCK, WHOLE, block, piece, places, tile_of

_LOG_2PI = tl.constexpr(math.log(2 * math.pi)) if tl else math.log(2 * math.pi)


@triton_kernel
def gaussian_forward_rows(
    clock, loss, dmean, dlog_variance, mean, x, log_variance, fixed, r, f, samples,
    MEAN: tl.constexpr, M: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Whole rows; dmean may lie where the mean does. fixed: the log-variance that is not learned."""
    rows = extent(clock, r)
    if log_variance is not None:
        raw = tl.load(log_variance).to(tl.float64)
        log_s = clamp_logvar(raw)
    else:
        raw = fixed
        log_s = fixed
    precision = exp(-log_s)
    m, inside = block(rows * samples, M)
    total = tl.zeros((M, W), tl.float64)
    for begin in range(0, f, W):
        j = begin + tl.arange(0, W)
        mask, place = piece(m, inside, j, f)
        d = tl.load(mean + place, mask, other=0.0)
        d -= tl.load(x + places(m // samples, j, f), mask, other=0.0)
        total += (d * d).to(tl.float64)
        if dmean is not None:
            scale = precision
            if MEAN:
                scale = precision / rows.to(tl.float64)
            tl.store(dmean + place, d * scale.to(d.dtype), mask)
    square = tl.sum(total, 1) * precision
    if loss is not None:
        tl.store(loss + m, 0.5 * (square + f * (log_s + _LOG_2PI)), inside)
    if dlog_variance is not None:
        tl.store(dlog_variance + m, tl.where(log_s == raw, 0.5 * (f - square), 0.0), inside)


@triton_kernel
def gaussian_backward_variance_sum(clock, dw, dlog_variance, weight, n, samples, BLOCK: tl.constexpr, PITCH: tl.constexpr):
    """The sum, in the only element of a weight that is not padding."""
    count = extent(clock, n)
    total = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, count, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        d = tl.load(dlog_variance + place, place < count, other=0.0)
        if weight is not None:
            d *= tl.load(weight + place, place < count, other=0.0)
        total += d
    result = tl.sum(total, 0)
    if weight is None:
        result = result / (count.to(tl.float64) / samples)
    lane = tl.arange(0, PITCH)
    tl.store(dw + lane, tl.where(lane == 0, result, 0.0).to(dw.dtype.element_ty))


def gaussian_forward(
    emit: Emitter, loss: Operand | None, dmean: Operand | None, dlog_variance: Operand | None, mean: Operand, x: Operand,
    log_variance: Operand | None, *, samples: int, mean_over_rows: bool, variance: float,
) -> None:  # fmt: skip
    """Blocks of rows."""
    features = x.dims[1][0]
    m, w = tile_of(features, WHOLE)
    emit(
        gaussian_forward_rows, divide_up(emit.most(mean.size(0)), m), loss=loss, dmean=dmean, dlog_variance=dlog_variance,
        mean=mean, x=x, log_variance=log_variance, fixed=math.log(variance), r=x.size(0), f=features,
        samples=int(samples), MEAN=bool(mean_over_rows), M=m, W=w,
    )  # fmt: skip


def gaussian_backward_variance(
    emit: Emitter, dw: Operand, dlog_variance: Operand, weight: Operand | None, *, samples: int
) -> None:
    """One program."""
    emit(
        gaussian_backward_variance_sum, 1, dw=dw, dlog_variance=dlog_variance, weight=weight, n=dlog_variance.size(0),
        samples=int(samples), BLOCK=BLOCK, PITCH=PITCH,
    )  # fmt: skip


LAUNCHES = {f.__name__: f for f in (gaussian_forward, gaussian_backward_variance)}
