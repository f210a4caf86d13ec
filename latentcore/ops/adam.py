"""Adam (Kingma and Ba 2015) in PyTorch's form, with decoupled weight decay (Loshchilov and Hutter 2019)."""

from __future__ import annotations

import numpy as np

from .signature import Clock, Op

ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}


def adam_update(w, m, v, g, learning_rate, squared, *, clock: Clock, beta1, beta2, epsilon, weight_decay, max_norm):
    """m, v: moving means of g and g^2; w -= rate * (m / c1) / (sqrt(v / c2) + epsilon), c = 1 - beta^t. With `squared`,
    the squared norm of all gradients, g is first scaled to a norm of at most max_norm."""
    rate, t = learning_rate[clock.iteration], clock.step + 1
    if squared is not None:
        g = g * min(1.0, max_norm / (np.sqrt(squared[0]) + 1e-6))
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    by = np.sqrt(v / (1 - beta2**t)) + epsilon
    w[...] = w * (1 - rate * weight_decay) - rate / (1 - beta1**t) * m / by


OPS = (
    Op("adam_update", "w{o,i} m{o,i} v{o,i} = g{o,i} learning_rate[steps]:float64 squared?[1]:float64", adam_update,
       lambda s, _: 12 * s["o"] * (s["i"] + 1), {**ADAM, "max_norm": 0.0}),
)  # fmt: skip
