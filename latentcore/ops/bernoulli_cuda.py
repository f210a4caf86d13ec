"""The Bernoulli loss and its gradient on the GPU."""

from __future__ import annotations

from .elementary_cuda import exp, extent, log1p
from .launches import Emitter, Operand, divide_up, tl, triton_kernel
from .tiles_cuda import WHOLE, block, piece, places, tile_of


@triton_kernel
def bernoulli_forward_rows(
    clock, loss, dlogits, logits, x, r, f, samples, MEAN: tl.constexpr, M: tl.constexpr, W: tl.constexpr
):
    """Whole rows; dlogits may lie where the logits do."""
    rows = extent(clock, r)
    m, inside = block(rows * samples, M)
    total = tl.zeros((M, W), tl.float64)
    for begin in range(0, f, W):
        j = begin + tl.arange(0, W)
        mask, place = piece(m, inside, j, f)
        v = tl.load(logits + place, mask, other=0.0)
        target = tl.load(x + places(m // samples, j, f), mask, other=0.0)
        e = exp(-tl.abs(v))
        if loss is not None:
            element = tl.maximum(v, 0.0) - v * target + log1p(e)
            total += tl.where(mask, element, 0.0).to(tl.float64)
        if dlogits is not None:
            d = tl.where(v < 0, e, 1.0) / (1.0 + e) - target
            if MEAN:
                d *= (1.0 / rows.to(tl.float64)).to(d.dtype)
            tl.store(dlogits + place, d, mask)
    if loss is not None:
        tl.store(loss + m, tl.sum(total, 1), inside)


def bernoulli_forward(
    emit: Emitter, loss: Operand | None, dlogits: Operand | None, logits: Operand, x: Operand,
    *, samples: int, mean_over_rows: bool,
) -> None:  # fmt: skip
    """Blocks of rows."""
    features = x.dims[1][0]
    m, w = tile_of(features, WHOLE)
    emit(
        bernoulli_forward_rows, divide_up(emit.most(logits.size(0)), m), loss=loss, dlogits=dlogits, logits=logits, x=x,
        r=x.size(0), f=features, samples=int(samples), MEAN=bool(mean_over_rows), M=m, W=w,
    )  # fmt: skip


LAUNCHES = {"bernoulli_forward": bernoulli_forward}
