"""z = mu + e^(logvar / 2) * noise on the GPU."""

from __future__ import annotations

from .elementary_cuda import exp
from .kl_cuda import clamp_logvar, inside_clamp
from .launches import Emitter, Operand, device_function, tl, triton_kernel
from .tiles_cuda import places, tile, tiles_of


@device_function
def deviation(v):
    """e^(v / 2)."""
    return exp(v * 0.5)


@triton_kernel
def reparameterize_forward_tile(clock, z, mu, logvar, noise, r, width, M: tl.constexpr, W: tl.constexpr):
    """z[r, width]."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, width)
    d = deviation(clamp_logvar(tl.load(logvar + place, inside, other=0.0)))
    e = tl.load(noise + place, inside, other=0.0)
    tl.store(z + place, d * e + tl.load(mu + place, inside, other=0.0), inside)


@triton_kernel
def reparameterize_backward_tile(clock, dmu, dlogvar, dz, logvar, noise, r, width, M: tl.constexpr, W: tl.constexpr):
    """dmu = dz; dlogvar = dz noise e^(logvar / 2) / 2."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, width)
    raw = tl.load(logvar + place, inside, other=0.0)
    g = tl.load(dz + place, inside, other=0.0)
    e = tl.load(noise + place, inside, other=0.0)
    tl.store(dmu + place, g, inside)
    tl.store(dlogvar + place, g * 0.5 * deviation(clamp_logvar(raw)) * e * inside_clamp(raw), inside)


def reparameterize_forward(emit: Emitter, z: Operand, mu: Operand, logvar: Operand, noise: Operand) -> None:
    """Tiles of z."""
    grid, sizes = tiles_of(emit, z)
    emit(reparameterize_forward_tile, *grid, z=z, mu=mu, logvar=logvar, noise=noise, **sizes)


def reparameterize_backward(
    emit: Emitter, dmu: Operand, dlogvar: Operand, dz: Operand, logvar: Operand, noise: Operand
) -> None:
    """Tiles of the gradients."""
    grid, sizes = tiles_of(emit, dz)
    emit(
        reparameterize_backward_tile, *grid, dmu=dmu, dlogvar=dlogvar, dz=dz, logvar=logvar, noise=noise, **sizes
    )  # fmt: skip


LAUNCHES = {f.__name__: f for f in (reparameterize_forward, reparameterize_backward)}
