"""The sum of weights, the mean, and the Gram matrix about the mean of rows, merged into those of earlier rows (Chan, Golub
& LeVeque 1983, "Algorithms for computing the sample variance", Am. Stat. 37)."""

from __future__ import annotations

import numpy as np

from .signature import Op


def moments_forward(count, mean, gram, x, weight, *, accumulate):
    """count = sum w, mean = sum w x / count, gram = sum w (x - mean)(x - mean)', w = 1 where no weight is given; those of
    these rows and of the rows behind the state if `accumulate`. All weights zero: the state stays, or becomes zeros."""
    w = np.ones(len(x)) if weight is None else weight
    before = count[0] if accumulate else 0.0
    if before == 0:
        count[...], mean[...], gram[...] = 0, 0, 0
    added = w.sum()
    if added == 0:
        return
    middle = w @ x / added
    centred = np.sqrt(w)[:, None] * (x - middle)
    step = middle - mean
    gram += centred.T @ centred + before * added / (before + added) * np.outer(step, step)
    mean += added / (before + added) * step
    count += added


OPS = (
    Op("moments_forward", "count[1]:float64 mean[f]:float64 gram[f,f]:float64 = x[r,f] weight?[r]:float64",
       moments_forward, lambda s, _: s["r"] * s["f"] * (s["f"] + 1), {"accumulate": True}),
)  # fmt: skip
