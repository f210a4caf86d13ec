"""The latent layer: noise, reparameterization and KL in one; the composition of those ops is its definition.

h holds mu and logvar side by side. The noise is drawn from the counter of its element, row, step and stream, the same in
both directions, unless it is given. Without `row` all rows draw the same.
"""

from __future__ import annotations

import numpy as np

from .kl import kl_backward, kl_elements
from .random import philox_normal
from .reparameterize import reparameterize_backward, reparameterize_forward
from .signature import Clock, Op
from .special import clamp_logvar


def _split(h: np.ndarray, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    mu, logvar = np.split(h, 2, axis=1)
    return np.repeat(mu, samples, 0), np.repeat(logvar, samples, 0)


def _noise(noise, row, h, clock: Clock, samples: int, stream: int):
    if noise is not None:
        return noise
    rows, latent = len(h), h.shape[1] // 2
    row = np.zeros(rows, np.uint32) if row is None else row
    drawn = philox_normal(clock.seed, row, samples * latent, clock.step, stream, first=clock.sample * latent)
    return drawn.reshape(rows * samples, latent)


def latent_forward(z, kl_dim, kl, log_ratio, h, noise, row, *, clock: Clock, samples, stream):
    """z: the samples of each row; kl_dim: the mean KL of each dimension; kl: that of each row;
    log_ratio: log p(z) - log q(z | x) of each sample."""
    mu, logvar = _split(h, samples)
    e = _noise(noise, row, h, clock, samples, stream)
    reparameterize_forward(z, mu, logvar, e)
    elements = kl_elements(*_split(h))
    if kl_dim is not None:
        kl_dim[...] = elements.mean(0)
    if kl is not None:
        kl[...] = elements.sum(1)
    if log_ratio is not None:
        log_ratio[...] = 0.5 * (e * e - z * z + clamp_logvar(logvar)).sum(1)


def latent_backward(dh, dz, h, beta, kl_dim, weight, noise, row, *, clock: Clock, samples, stream, free_bits):
    """dh from dz and from beta times the KL. Without `weight` that is the mean over the rows of the analytic KL, of the
    dimensions at or above free_bits; with it, minus log_ratio of each sample times its weight."""
    rows, beta = len(h), beta[clock.iteration]
    mu, logvar = _split(h, samples)
    e = _noise(noise, row, h, clock, samples, stream)
    g, z = dz.copy(), np.empty_like(dz)
    if weight is not None:
        reparameterize_forward(z, mu, logvar, e)
        g += beta * weight[:, None] * z
    dmu, dlogvar = np.empty_like(g), np.empty_like(g)
    reparameterize_backward(dmu, dlogvar, g, logvar, e)
    if weight is not None:
        dlogvar -= beta * weight[:, None] / 2 * (logvar == clamp_logvar(logvar))
    dh[...] = np.concatenate([d.reshape(rows, samples, -1).sum(1) for d in (dmu, dlogvar)], 1)
    if weight is None:
        mu, logvar = _split(h)
        dmu, dlogvar = np.empty_like(mu), np.empty_like(mu)
        kl_backward(dmu, dlogvar, np.full(rows, beta / rows), mu, logvar)
        charged = 1.0 if kl_dim is None else kl_dim >= free_bits
        dh += np.concatenate([dmu * charged, dlogvar * charged], 1)


def posterior_forward(mu, logvar, h):
    """h in two, the log-variance clamped."""
    if mu is not None:
        mu[...] = _split(h)[0]
    if logvar is not None:
        logvar[...] = clamp_logvar(_split(h)[1])


def _flops(s, o):
    return 40 * s["r"] * s["l"] * o.get("samples", 1)


_SAMPLING = {"samples": 1, "stream": 0}
OPS = (
    Op("latent_forward",
       "z[samples*r,l] kl_dim?[l]:float64 kl?[r]:float64 log_ratio?[samples*r]:float64 = "
       "h[r,2*l] noise?[samples*r,l] row?[r]:uint32", latent_forward, _flops, _SAMPLING),
    Op("latent_backward",
       "dh[r,2*l] = dz[samples*r,l] h[r,2*l] beta[steps]:float64 kl_dim?[l]:float64 weight?[samples*r]:float64 "
       "noise?[samples*r,l] row?[r]:uint32", latent_backward, _flops, {**_SAMPLING, "free_bits": 0.0}),
    Op("posterior_forward", "mu?[r,l] logvar?[r,l] = h[r,2*l]", posterior_forward, lambda s, _: 2 * s["r"] * s["l"]),
)  # fmt: skip
