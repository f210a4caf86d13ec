"""The KL of a diagonal Gaussian to the standard normal on the GPU; and its log-variance, clamped to [-30, 20]."""

from __future__ import annotations

from .elementary_cuda import expm1, extent
from .launches import Emitter, Operand, device_function, tl, triton_kernel
from .special import LOGVAR_MAX, LOGVAR_MIN
from .tiles_cuda import block, piece, places, tile, tiles_of

_LEAST, _MOST = (tl.constexpr(LOGVAR_MIN), tl.constexpr(LOGVAR_MAX)) if tl else (LOGVAR_MIN, LOGVAR_MAX)


@device_function
def clamp_logvar(v):
    """v within the clamp; NaN stays."""
    v = tl.where(v < _LEAST, _LEAST, v)
    return tl.where(v > _MOST, _MOST, v)


@device_function
def inside_clamp(v):
    """1 where the clamp leaves v alone, 0 outside."""
    return tl.where((v < _LEAST) | (v > _MOST), 0.0, 1.0).to(v.dtype)


@device_function
def kl_of(mu, v):
    """(mu^2 + e^v - 1 - v) / 2 of each element, v clamped."""
    return (mu * mu + (expm1(v) - v)) * 0.5


@triton_kernel
def kl_forward_rows(clock, kl, mu, logvar, r, width, M: tl.constexpr, W: tl.constexpr):
    """kl[r], the sums of rows."""
    m, here = block(extent(clock, r), M)
    sums = tl.zeros((M, W), tl.float64)
    for begin in range(0, width, W):
        inside, place = piece(m, here, begin + tl.arange(0, W), width)
        v = clamp_logvar(tl.load(logvar + place, inside, other=0.0))
        sums += kl_of(tl.load(mu + place, inside, other=0.0), v).to(tl.float64)
    tl.store(kl + m, tl.sum(sums, 1), here)


@triton_kernel
def kl_backward_tile(clock, dmu, dlogvar, dkl, mu, logvar, r, width, M: tl.constexpr, W: tl.constexpr):
    """dmu = dkl mu; dlogvar = dkl (e^v - 1) / 2."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, width)
    raw = tl.load(logvar + place, inside, other=0.0)
    g = tl.load(dkl + m, m < extent(clock, r), other=0.0).to(raw.dtype)[:, None]
    tl.store(dmu + place, g * tl.load(mu + place, inside, other=0.0), inside)
    tl.store(dlogvar + place, g * 0.5 * expm1(clamp_logvar(raw)) * inside_clamp(raw), inside)


def kl_forward(emit: Emitter, kl: Operand, mu: Operand, logvar: Operand) -> None:
    """Blocks of rows."""
    grid, sizes = tiles_of(emit, mu)
    emit(kl_forward_rows, grid[0], kl=kl, mu=mu, logvar=logvar, **sizes)


def kl_backward(emit: Emitter, dmu: Operand, dlogvar: Operand, dkl: Operand, mu: Operand, logvar: Operand) -> None:
    """Tiles of the gradients."""
    grid, sizes = tiles_of(emit, mu)
    emit(kl_backward_tile, *grid, dmu=dmu, dlogvar=dlogvar, dkl=dkl, mu=mu, logvar=logvar, **sizes)


LAUNCHES = {"kl_forward": kl_forward, "kl_backward": kl_backward}
