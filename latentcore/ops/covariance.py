"""The mean of each group of rows, and its Gram matrix about that mean."""

from __future__ import annotations

import numpy as np

from .signature import Op


def covariance_forward(mean, gram, x, begin, end):
    """Of group i, the rows begin[i] .. end[i] of x: mean, and gram = sum (x - mean)(x - mean)'. No rows: NaN and zeros.
    Raises IndexError for a group that begins after its end or ends after the data."""
    if (begin > end).any() or (end > len(x)).any():
        raise IndexError("covariance_forward: a row number lies outside the data")
    for i, (first, last) in enumerate(zip(begin, end)):
        rows = x[first:last]
        mean[i] = rows.sum(0) / len(rows) if len(rows) else np.nan
        centred = rows - mean[i]
        gram[i] = centred.T @ centred


OPS = (
    Op("covariance_forward",
       "mean[r,f]:float64 gram[r,f,f]:float64 = x[n,f] begin[r]:uint32 end[r]:uint32", covariance_forward,
       lambda s, _: s["n"] * s["f"] * (s["f"] + 1)),
)  # fmt: skip
