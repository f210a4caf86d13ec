"""The importance-weighted bound of Burda et al. 2016 (eq. 8) and its gradient (eq. 14)."""

from __future__ import annotations

import numpy as np

from .signature import Clock, Op


def importance_forward(bound, weight, loss, log_ratio, beta, *, clock: Clock, samples, mean_over_rows):
    """bound = -log mean_k w, log w = beta * log_ratio - loss; weight = w / sum_k w, over the rows if `mean_over_rows`."""
    log_w = (beta[clock.iteration] * log_ratio - loss).reshape(-1, samples)
    largest = log_w.max(1, keepdims=True)
    w = np.exp(log_w - largest)
    bound[...] = np.log(samples) - largest[:, 0] - np.log(w.sum(1))
    if weight is not None:
        weight[...] = (w / w.sum(1, keepdims=True)).ravel() / (len(log_w) if mean_over_rows else 1)


def importance_backward(d, weight):
    """Each row of d times its weight, in place."""
    d *= weight[:, None]


OPS = (
    Op("importance_forward",
       "bound[r]:float64 weight?[samples*r]:float64 = loss[samples*r]:float64 log_ratio[samples*r]:float64 "
       "beta[steps]:float64", importance_forward, lambda s, o: 40 * s["r"] * o["samples"],
       {"samples": 1, "mean_over_rows": True}),
    Op("importance_backward", "d[n,f] = weight[n]:float64", importance_backward, lambda s, _: s["n"] * s["f"]),
)  # fmt: skip
