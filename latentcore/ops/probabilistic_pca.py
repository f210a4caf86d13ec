"""The log density of rows under probabilistic PCA (Tipping & Bishop 1999, "Probabilistic principal component analysis",
J. R. Stat. Soc. B 61, eq. 4), from the codes along orthonormal components and the residual outside them."""

from __future__ import annotations

import math

import numpy as np

from .signature import Op


def probabilistic_pca_forward(loglik, xc, xr, z, variance, noise):
    """loglik = -(f log 2 pi + sum log variance + (f - k) log noise + sum z^2 / variance + |xc - xr|^2 / noise) / 2.

    xc (centred rows) or xr (their reconstructions) count as zero where absent; without both, and where f = k, there is no
    outside and the noise is not looked at. variance: of the codes, the model's eigenvalues.
    """
    residual = np.subtract(0 if xc is None else xc, 0 if xr is None else xr)
    codes = z.shape[1]
    features = codes if np.ndim(residual) == 0 else residual.shape[1]
    total = features * math.log(2 * math.pi) + np.log(variance).sum() + (z * z / variance).sum(1)
    if features > codes:
        total += (features - codes) * np.log(noise[0]) + (residual * residual).sum(1) / noise[0]
    loglik[...] = -0.5 * total


OPS = (
    Op("probabilistic_pca_forward",
       "loglik[r]:float64 = xc?[r,f] xr?[r,f] z[r,k] variance[k]:float64 noise[1]:float64",
       probabilistic_pca_forward, lambda s, _: 3 * s["r"] * (s["f"] + s["k"])),
)  # fmt: skip
