"""z = mu + e^(logvar / 2) * noise (Kingma and Welling 2014)."""

from __future__ import annotations

import numpy as np

from .signature import Op
from .special import clamp_logvar, inside_clamp


def reparameterize_forward(z, mu, logvar, noise):
    """z = mu + e^(logvar / 2) * noise, logvar clamped."""
    z[...] = mu + np.exp(clamp_logvar(logvar) / 2) * noise


def reparameterize_backward(dmu, dlogvar, dz, logvar, noise):
    """dmu = dz; dlogvar = dz * noise * e^(logvar / 2) / 2."""
    dmu[...] = dz
    dlogvar[...] = dz * noise * np.exp(clamp_logvar(logvar) / 2) / 2 * inside_clamp(logvar)


OPS = (
    Op("reparameterize_forward", "z[r,l] = mu[r,l] logvar[r,l] noise[r,l]", reparameterize_forward,
       lambda s, _: 12 * s["r"] * s["l"]),
    Op("reparameterize_backward", "dmu[r,l] dlogvar[r,l] = dz[r,l] logvar[r,l] noise[r,l]", reparameterize_backward,
       lambda s, _: 13 * s["r"] * s["l"]),
)  # fmt: skip
