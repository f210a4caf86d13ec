"""KL(N(mu, e^logvar) || N(0, 1)), in nats (Kingma and Welling 2014, appendix B)."""

from __future__ import annotations

import numpy as np

from .signature import Op
from .special import clamp_logvar, inside_clamp


def kl_elements(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """(mu^2 + e^v - 1 - v) / 2, v the clamped logvar."""
    v = clamp_logvar(logvar)
    return 0.5 * (mu * mu + np.expm1(v) - v)


def kl_forward(kl, mu, logvar):
    """The KL of each row."""
    kl[...] = kl_elements(mu, logvar).sum(1)


def kl_backward(dmu, dlogvar, dkl, mu, logvar):
    """dmu = dkl * mu; dlogvar = dkl * (e^v - 1) / 2."""
    dmu[...] = dkl[:, None] * mu
    dlogvar[...] = dkl[:, None] * np.expm1(clamp_logvar(logvar)) / 2 * inside_clamp(logvar)


OPS = (
    Op("kl_forward", "kl[r]:float64 = mu[r,l] logvar[r,l]", kl_forward, lambda s, _: 14 * s["r"] * s["l"]),
    Op("kl_backward", "dmu[r,l] dlogvar[r,l] = dkl[r]:float64 mu[r,l] logvar[r,l]", kl_backward,
       lambda s, _: 14 * s["r"] * s["l"]),
)  # fmt: skip
