"""The squared norm of a gradient, added up over tensors for clipping (Pascanu et al. 2013)."""

from __future__ import annotations

import numpy as np

from .signature import Op


def norm_forward(squared, g, *, accumulate):
    """squared (+)= the sum of g^2."""
    squared[0] = np.sum(g * g) + (squared[0] if accumulate else 0)


OPS = (
    Op("norm_forward", "squared[1]:float64 = g{o,i}", norm_forward, lambda s, _: 2 * s["o"] * (s["i"] + 1),
       {"accumulate": False}),
)  # fmt: skip
