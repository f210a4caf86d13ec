"""The log density of probabilistic PCA on the GPU."""

from __future__ import annotations

import math

from .elementary_cuda import extent
from .launches import Emitter, Operand, divide_up, tl, triton_kernel
from .tiles_cuda import block, piece, tile_of


@triton_kernel
def probabilistic_pca_forward_rows(
    clock, loglik, xc, xr, z, variance, noise, r, f, k, constant, NOISY: tl.constexpr, M: tl.constexpr, W: tl.constexpr
):  # fmt: skip
    """Whole rows, in float64. constant: f log 2 pi. NOISY: there are directions outside the components."""
    m, inside = block(extent(clock, r), M)
    logs = tl.zeros((W,), tl.float64)
    codes = tl.zeros((M, W), tl.float64)
    for begin in range(0, k, W):
        j = begin + tl.arange(0, W)
        mask, place = piece(m, inside, j, k)
        v = tl.load(z + place, mask, other=0.0).to(tl.float64)
        by = tl.load(variance + j, j < k, other=1.0)
        codes += v * v / by[None, :]
        logs += tl.log(by)  # in float64 good to the last place on a GPU too, and knows 0
    total = constant + tl.sum(logs, 0) + tl.sum(codes, 1)
    if NOISY:
        residuals = tl.zeros((M, W), tl.float64)
        for begin in range(0, f, W):
            mask, place = piece(m, inside, begin + tl.arange(0, W), f)
            d = tl.zeros((M, W), tl.float64)
            if xc is not None:
                d += tl.load(xc + place, mask, other=0.0).to(tl.float64)
            if xr is not None:
                d -= tl.load(xr + place, mask, other=0.0).to(tl.float64)
            residuals += d * d
        level = tl.load(noise)
        total += (f - k) * tl.log(level) + tl.sum(residuals, 1) / level
    tl.store(loglik + m, -0.5 * total, inside)


def probabilistic_pca_forward(
    emit: Emitter, loglik: Operand, xc: Operand | None, xr: Operand | None, z: Operand, variance: Operand, noise: Operand
) -> None:
    """Blocks of rows: several, which share the logarithms."""
    codes = z.dims[1][0]
    features = (xc or xr or z).dims[1][0]
    m, w = tile_of(features)
    emit(
        probabilistic_pca_forward_rows, divide_up(emit.most(z.size(0)), m), loglik=loglik, xc=xc, xr=xr, z=z,
        variance=variance, noise=noise, r=z.size(0), f=features, k=codes, constant=features * math.log(2 * math.pi),
        NOISY=features > codes, M=m, W=w,
    )  # fmt: skip


LAUNCHES = {"probabilistic_pca_forward": probabilistic_pca_forward}
