"""The negative log-likelihood of data in [0, 1] under Bernoulli logits, in nats, and its gradient in one pass."""

from __future__ import annotations

import numpy as np

from .signature import Op
from .special import sigmoid, softplus


def bernoulli_forward(loss, dlogits, logits, x, *, samples, mean_over_rows):
    """loss = sum over features of softplus(l) - l x; dlogits = sigmoid(l) - x, over the rows of x if `mean_over_rows`."""
    target = np.repeat(x, samples, 0)
    if loss is not None:
        loss[...] = (softplus(logits) - logits * target).sum(1)
    if dlogits is not None:
        dlogits[...] = (sigmoid(logits) - target) / (len(x) if mean_over_rows else 1)


OPS = (
    Op("bernoulli_forward", "loss?[samples*r]:float64 dlogits?[samples*r,f] = logits[samples*r,f] x[r,f]",
       bernoulli_forward, lambda s, o: 35 * s["r"] * s["f"] * o["samples"], {"samples": 1, "mean_over_rows": True}),
)  # fmt: skip
