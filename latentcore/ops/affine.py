"""Rows of many groups, each group with an affine map of its own: the projections of many PCAs, and their inverses."""

from __future__ import annotations

import numpy as np

from .signature import Op


def affine_forward(y, x, group, before, w, after):
    """y = W[g] (x - before[g]) + after[g], where g is the row's group; the vectors are moved in float64."""
    moved = x if before is None else x - before[group]
    y[...] = np.einsum("roi,ri->ro", w[group], moved)
    if after is not None:
        y += after[group]


OPS = (
    Op("affine_forward",
       "y[r,o] = x[r,i] group[r]:uint32 before?[g,i]:float64 w[g,o,i] after?[g,o]:float64",
       affine_forward, lambda s, _: 2 * s["r"] * s["o"] * s["i"]),
)  # fmt: skip
