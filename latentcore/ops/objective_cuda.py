"""What a step reports, where it stops, and the score of a row, on the GPU."""

from __future__ import annotations

from .elementary_cuda import extent, is_whole
from .launches import ITERATION, NOT_FINITE, STATUS, Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .tiles_cuda import BLOCK, WHOLE, block, piece, sum_of, tile_of

_PLACES = (ITERATION, STATUS, NOT_FINITE)
_ITERATION, _STATUS, _NOT_FINITE = map(tl.constexpr, _PLACES) if tl else _PLACES


@device_function
def _is_finite(x):
    return tl.abs(x) < float("inf")


@triton_kernel
def objective_forward_row(clock, metrics, recon, kl_dim, bound, beta, n, latent, r, width, free_bits, BLOCK: tl.constexpr):
    """The row of metrics, by one program. What ended a run first stays its reason."""
    iteration = tl.load(clock + _ITERATION)
    row = metrics + iteration * width
    count = extent(clock, n)
    mean = sum_of(recon, count, BLOCK) / count.to(tl.float64)
    kl = tl.zeros((), tl.float64)
    value = mean
    if kl_dim is not None:
        dims, charged = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
        for begin in range(0, latent, BLOCK):
            place = begin + tl.arange(0, BLOCK)
            v = tl.load(kl_dim + place, place < latent, other=0.0)
            dims += v
            charged += tl.where(place < latent, tl.maximum(v, free_bits), 0.0)
            tl.store(row + 3 + place, v, place < latent)
        kl = tl.sum(dims, 0)
        value = mean + tl.load(beta + iteration) * tl.sum(charged, 0)
    if bound is not None:
        bounds = extent(clock, r)
        value = sum_of(bound, bounds, BLOCK) / bounds.to(tl.float64)
    tl.store(row, value)
    tl.store(row + 1, mean)
    tl.store(row + 2, kl)
    ended = ~(_is_finite(value) & _is_finite(mean) & _is_finite(kl))
    tl.store(clock + _STATUS, _NOT_FINITE, ended & is_whole(clock))


@triton_kernel
def score_forward_rows(clock, score, recon, kl, r, samples, M: tl.constexpr, W: tl.constexpr):
    """Minus the mean of a row's samples, less its kl."""
    m, inside = block(extent(clock, r), M)
    total = tl.zeros((M, W), tl.float64)
    for begin in range(0, samples, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), samples)
        total += tl.load(recon + place, mask, other=0.0)
    value = -tl.sum(total, 1) / samples
    if kl is not None:
        value -= tl.load(kl + m, inside, other=0.0)
    tl.store(score + m, value, inside)


def objective_forward(
    emit: Emitter, metrics: Operand, recon: Operand, kl_dim: Operand | None, bound: Operand | None, beta: Operand,
    *, free_bits: float,
) -> None:  # fmt: skip
    """One program."""
    emit(
        objective_forward_row, 1, metrics=metrics, recon=recon, kl_dim=kl_dim, bound=bound, beta=beta, n=recon.size(0),
        latent=kl_dim.size(0) if kl_dim else 0, r=bound.size(0) if bound else 0, width=metrics.size(1),
        free_bits=float(free_bits), BLOCK=BLOCK,
    )  # fmt: skip


def score_forward(emit: Emitter, score: Operand, recon: Operand, kl: Operand | None, *, samples: int) -> None:
    """Blocks of rows."""
    m, w = tile_of(int(samples), WHOLE)
    emit(
        score_forward_rows, divide_up(emit.most(score.size(0)), m), score=score, recon=recon, kl=kl, r=score.size(0),
        samples=int(samples), M=m, W=w,
    )  # fmt: skip


LAUNCHES = {f.__name__: f for f in (objective_forward, score_forward)}
