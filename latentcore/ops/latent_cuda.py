"""The latent layer on the GPU: noise, reparameterization, KL and log-ratio in one launch, their gradient in another, the
noise drawn anew from its counters."""

from __future__ import annotations

from .elementary_cuda import expm1, extent
from .kl_cuda import clamp_logvar, inside_clamp, kl_of
from .launches import ITERATION, SAMPLE, Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .random_cuda import normal_tile
from .reparameterize_cuda import deviation
from .tiles_cuda import elements_of, piece, places, power_of_two, tile, tile_of, tiles_of

_ITERATION, _SAMPLE = (tl.constexpr(ITERATION), tl.constexpr(SAMPLE)) if tl else (ITERATION, SAMPLE)


@device_function
def _mean_kl(kl_dim, h, rows, width, j, N: tl.constexpr, J: tl.constexpr):
    """kl_dim of the J dimensions j: the mean over the rows, N at a time in ascending order."""
    sums = tl.zeros((N, J), tl.float64)
    for begin in range(0, rows, N):
        n = begin + tl.arange(0, N)
        inside, place = (n < rows)[:, None] & (j < width)[None, :], places(n, j, 2 * width)
        v = clamp_logvar(tl.load(h + width + place, inside, other=0.0))
        sums += kl_of(tl.load(h + place, inside, other=0.0), v).to(tl.float64)
    tl.store(kl_dim + j, tl.sum(sums, 0) / rows, j < width)


@device_function
def _noise(
    clock, noise, row, q, s, m, known, begin, width, stream,
    W: tl.constexpr, ALIGNED: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The noise of dimensions begin to begin + W - 1 of samples m, the s-th of rows q: given, or drawn."""
    if noise is not None:
        inside, place = piece(m, known, begin + tl.arange(0, W), width)
        e = tl.load(noise + place, inside, other=0.0)
    else:
        number = q * 0
        if row is not None:
            number = tl.load(row + q, known, other=0)
        first = ((tl.load(clock + _SAMPLE) + s) * width + begin).to(tl.uint32)
        e = normal_tile(clock, first[:, None], number.to(tl.uint32)[:, None], stream, W, ALIGNED, DTYPE)
    return e


@triton_kernel
def latent_forward_tile(
    clock, z, kl_dim, kl, log_ratio, h, noise, row, r, width, samples, stream, walkers,
    N: tl.constexpr, J: tl.constexpr, M: tl.constexpr, W: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """The first `walkers` programs make kl_dim, of J dimensions each; each of the others makes M samples."""
    rows, part = extent(clock, r), tl.program_id(0)
    if kl_dim is not None:  # noqa: SIM102, this condition is the compiler's
        if part < walkers:
            _mean_kl(kl_dim, h, rows, width, part * J + tl.arange(0, J), N, J)
            return
    m = (part - walkers) * M + tl.arange(0, M)
    q, s, known = m // samples, m % samples, m < rows * samples
    kl_sums, ratio_sums = tl.zeros((M,), tl.float64), tl.zeros((M,), tl.float64)
    for begin in range(0, width, W):
        j = begin + tl.arange(0, W)
        inside, place = known[:, None] & (j < width)[None, :], places(q, j, 2 * width)
        mu = tl.load(h + place, inside, other=0.0)
        v = clamp_logvar(tl.load(h + width + place, inside, other=0.0))
        e = _noise(clock, noise, row, q, s, m, known, begin, width, stream, W, ALIGNED, h.dtype.element_ty)
        x = deviation(v) * e + mu
        tl.store(z + places(m, j, width), x, inside)
        if kl is not None:
            kl_sums += tl.sum(kl_of(mu, v).to(tl.float64), 1)
        if log_ratio is not None:  # log p(z) - log q(z | x), in which the constants cancel
            wide_e, wide_x = e.to(tl.float64), x.to(tl.float64)
            ratio = (wide_e * wide_e - wide_x * wide_x + v.to(tl.float64)) * 0.5
            ratio_sums += tl.sum(tl.where(inside, ratio, 0.0), 1)
    if kl is not None:
        tl.store(kl + q, kl_sums, known & (s == 0))
    if log_ratio is not None:
        tl.store(log_ratio + m, ratio_sums, known)


@triton_kernel
def latent_backward_tile(
    clock, dh, dz, h, beta, kl_dim, weight, noise, row, r, width, samples, stream, free_bits,
    M: tl.constexpr, S: tl.constexpr, W: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """dh of M rows and W dimensions, S samples of a row at a time side by side."""
    rows, lane = extent(clock, r), tl.arange(0, M * S)
    q, begin = tl.program_id(0) * M + lane // S, tl.program_id(1) * W
    j = begin + tl.arange(0, W)
    here, place = (q < rows)[:, None] & (j < width)[None, :], places(q, j, 2 * width)
    factor = tl.load(beta + tl.load(clock + _ITERATION))
    d = deviation(clamp_logvar(tl.load(h + width + place, here, other=0.0)))
    if weight is not None:
        mu = tl.load(h + place, here, other=0.0)
    to_mu = tl.zeros((M * S, W), h.dtype.element_ty)
    to_logvar = tl.zeros((M * S, W), h.dtype.element_ty)
    for first in range(0, samples, S):
        s = first + lane % S
        m, known = q.to(tl.int64) * samples + s, (q < rows) & (s < samples)
        inside = known[:, None] & (j < width)[None, :]
        e = _noise(clock, noise, row, q, s, m, known, begin, width, stream, W, ALIGNED, h.dtype.element_ty)
        moved = d * e
        g = tl.load(dz + places(m, j, width), inside, other=0.0)
        if weight is not None:
            w = (tl.load(weight + m, known, other=0.0) * factor).to(h.dtype.element_ty)[:, None]
            g += w * (moved + mu)
            to_logvar -= w * 0.5
        to_mu += g
        to_logvar += g * 0.5 * moved
    dmu, dlogvar = tl.sum(tl.reshape(to_mu, (M, S, W)), 1), tl.sum(tl.reshape(to_logvar, (M, S, W)), 1)

    q = tl.program_id(0) * M + tl.arange(0, M)
    here, place = (q < rows)[:, None] & (j < width)[None, :], places(q, j, 2 * width)
    raw = tl.load(h + width + place, here, other=0.0)
    if weight is None:  # the analytic KL
        by = tl.zeros((W,), tl.float64) + factor / rows
        if kl_dim is not None:
            by = tl.where(tl.load(kl_dim + j, j < width, other=0.0) < free_bits, 0.0, by)
        scale = by.to(h.dtype.element_ty)[None, :]
        dmu += scale * tl.load(h + place, here, other=0.0)
        dlogvar += scale * 0.5 * expm1(clamp_logvar(raw))
    tl.store(dh + place, dmu, here)
    tl.store(dh + width + place, dlogvar * inside_clamp(raw), here)


@triton_kernel
def posterior_tile(clock, mu, logvar, h, r, width, M: tl.constexpr, W: tl.constexpr):
    """h in two, the log-variance clamped."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, 2 * width)
    if mu is not None:
        tl.store(mu + places(m, j, width), tl.load(h + place, inside), inside)
    if logvar is not None:
        tl.store(logvar + places(m, j, width), clamp_logvar(tl.load(h + width + place, inside)), inside)


def latent_forward(
    emit: Emitter, z: Operand, kl_dim: Operand | None, kl: Operand | None, log_ratio: Operand | None, h: Operand,
    noise: Operand | None, row: Operand | None, *, samples: int, stream: int,
) -> None:  # fmt: skip
    """Programs that walk the rows for kl_dim, then blocks of samples."""
    latent = z.size(1)
    m, w = tile_of(latent, dtype=z.dtype)
    dims = 1 if latent <= 128 else 8  # of a walker: many walkers, or whole sectors of memory
    walkers = 0 if kl_dim is None else divide_up(latent, dims)
    emit(
        latent_forward_tile, walkers + divide_up(emit.most(z.size(0)), m), z=z, kl_dim=kl_dim, kl=kl,
        log_ratio=log_ratio, h=h, noise=noise, row=row, r=h.size(0), width=latent, samples=samples, stream=stream,
        walkers=walkers, N=elements_of(h.dtype) // dims, J=dims, M=m, W=w, ALIGNED=latent % 4 == 0,
    )  # fmt: skip


def latent_backward(
    emit: Emitter, dh: Operand, dz: Operand, h: Operand, beta: Operand, kl_dim: Operand | None, weight: Operand | None,
    noise: Operand | None, row: Operand | None, *, samples: int, stream: int, free_bits: float,
) -> None:  # fmt: skip
    """Tiles of the halves of dh."""
    latent = dz.size(1)
    m, w = tile_of(latent, dtype=dz.dtype)
    side_by_side = min(m, 8, power_of_two(samples))
    m //= side_by_side
    emit(
        latent_backward_tile, divide_up(emit.most(h.size(0)), m), divide_up(latent, w), dh=dh, dz=dz, h=h, beta=beta,
        kl_dim=kl_dim, weight=weight, noise=noise, row=row, r=h.size(0), width=latent, samples=samples, stream=stream,
        free_bits=float(free_bits), M=m, S=side_by_side, W=w, ALIGNED=latent % 4 == 0,
    )  # fmt: skip


def posterior_forward(emit: Emitter, mu: Operand | None, logvar: Operand | None, h: Operand) -> None:
    """Tiles of the halves of h."""
    half = mu or logvar
    if half is not None:
        grid, sizes = tiles_of(emit, half)
        emit(posterior_tile, *grid, mu=mu, logvar=logvar, h=h, **sizes)


LAUNCHES = {f.__name__: f for f in (latent_forward, latent_backward, posterior_forward)}
