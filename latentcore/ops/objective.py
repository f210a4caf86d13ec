"""What a step minimises and reports, in nats an example."""

from __future__ import annotations

import numpy as np

from .signature import Clock, Op


def objective_forward(metrics, recon, kl_dim, bound, beta, *, clock: Clock, free_bits):
    """A row of metrics: the objective, recon, kl, and the kl of each dimension. The objective is recon + beta * kl, each
    dimension charged at least free_bits (Kingma et al. 2016, eq. 15), or else the mean of `bound`. A run ends here, before
    anything is updated, where it is not finite."""
    dims = np.zeros(0) if kl_dim is None else kl_dim
    value = recon.mean() + beta[clock.iteration] * np.maximum(dims, free_bits).sum()
    metrics[clock.iteration] = [value if bound is None else bound.mean(), recon.mean(), dims.sum(), *dims]
    if not np.isfinite(metrics[clock.iteration]).all():
        raise FloatingPointError("objective_forward")


def score_forward(score, recon, kl, *, samples):
    """The evidence lower bound of each row: minus the mean of recon over its samples, minus kl."""
    score[...] = -recon.reshape(-1, samples).mean(1) - (0 if kl is None else kl)


OPS = (
    Op("objective_forward",
       "metrics[steps,m]:float64 = recon[n]:float64 kl_dim?[l]:float64 bound?[r]:float64 beta[steps]:float64",
       objective_forward, lambda s, _: s["n"] + s["r"] + 3 * s["l"], {"free_bits": 0.0}),
    Op("score_forward", "score[r]:float64 = recon[samples*r]:float64 kl?[r]:float64", score_forward,
       lambda s, o: s["r"] * o["samples"], {"samples": 1}),
)  # fmt: skip
