"""The negative log-likelihood of data under a Gaussian of one variance, fixed or learned, in nats, and its gradient."""

from __future__ import annotations

import math

import numpy as np

from .signature import Op
from .special import LOGVAR_MAX, LOGVAR_MIN


def gaussian_forward(loss, dmean, dlog_variance, mean, x, log_variance, *, samples, mean_over_rows, variance):
    """loss = sum over features of ((m - x)^2 / s + log(2 pi s)) / 2, s the variance; dmean = (m - x) / s, over the rows of
    x if `mean_over_rows`; dlog_variance: d loss / d log s of each row."""
    raw = math.log(variance) if log_variance is None else float(log_variance[0, 0])
    log_s = raw if log_variance is None else min(max(raw, LOGVAR_MIN), LOGVAR_MAX)
    d = mean - np.repeat(x, samples, 0)
    square = (d * d).sum(1) * math.exp(-log_s)
    if loss is not None:
        loss[...] = 0.5 * (square + d.shape[1] * (log_s + math.log(2 * math.pi)))
    if dmean is not None:
        dmean[...] = d * math.exp(-log_s) / (len(x) if mean_over_rows else 1)
    if dlog_variance is not None:
        dlog_variance[...] = 0.5 * (d.shape[1] - square) * (log_s == raw)


def gaussian_backward_variance(dw, dlog_variance, weight, *, samples):
    """The gradient of the learned log-variance: the rows' weighted sum, or else their sum over the rows of the data."""
    rows = len(dlog_variance) / samples
    dw[...] = dlog_variance.sum() / rows if weight is None else (dlog_variance * weight).sum()


OPS = (
    Op("gaussian_forward",
       "loss?[samples*r]:float64 dmean?[samples*r,f] dlog_variance?[samples*r]:float64 = "
       "mean[samples*r,f] x[r,f] log_variance?{1,0}", gaussian_forward,
       lambda s, o: 4 * s["r"] * s["f"] * o["samples"], {"samples": 1, "mean_over_rows": True, "variance": 1.0}),
    Op("gaussian_backward_variance", "dw{1,0} = dlog_variance[n]:float64 weight?[n]:float64",
       gaussian_backward_variance, lambda s, _: 2 * s["n"], {"samples": 1}),
)  # fmt: skip
