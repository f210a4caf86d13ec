"""A linear layer, y = activation(x W' + b), with its input gradient and its weight gradient.

The weight is an (out, in + 1) array here, the bias its last column.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np

from .adam import ADAM, adam_update
from .signature import Clock, Op
from .special import erf, sigmoid, softplus

LEAKY_SLOPE = 0.01


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + erf(x / sqrt(2)))


# name: (value of x, derivative from the output y and the input x)
_FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "identity": (lambda x: x, lambda y, x: np.ones_like(y)),
    "relu": (lambda x: np.maximum(x, 0), lambda y, x: (y > 0) * 1.0),
    "leaky_relu": (lambda x: np.where(x > 0, x, LEAKY_SLOPE * x), lambda y, x: np.where(y > 0, 1, LEAKY_SLOPE)),
    "tanh": (np.tanh, lambda y, x: (1 - y) * (1 + y)),
    "sigmoid": (sigmoid, lambda y, x: y * (1 - y)),
    "softplus": (softplus, lambda y, x: -np.expm1(-y)),
    "gelu": (lambda x: x * _normal_cdf(x), lambda y, x: _normal_cdf(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi)),
    "silu": (lambda x: x * sigmoid(x), lambda y, x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
}
ACTIVATIONS = tuple(_FUNCTIONS)
# Their output does not determine their input: a layer keeps the sums before them, for its backward pass.
KEEPS_INPUT = ("gelu", "silu")


def linear_forward(y, before, x, w, *, activation):
    """y = activation(x W' + b); before: the argument of the activation."""
    sums = x @ w[:, :-1].T + w[:, -1]
    if before is not None:
        before[...] = sums
    y[...] = _FUNCTIONS[activation][0](sums)


def linear_backward_input(dx, dy, w, x, before, *, activation):
    """dx = (dy W) * activation'(x), where x = activation(before) is what the layer below put out."""
    dx[...] = dy @ w[:, :-1]
    if activation != "identity":
        dx *= _FUNCTIONS[activation][1](x, before)


def linear_backward_weight(dw, dy, x, *, accumulate):
    """dW = dy' x, db = the column sums of dy."""
    gradient = np.concatenate([dy.T @ x, dy.sum(0)[:, None]], 1)
    dw[...] = dw + gradient if accumulate else gradient


def linear_backward_update(w, m, v, dy, x, learning_rate, *, clock: Clock, **options):
    """The weight gradient, handed to Adam and not kept."""
    gradient = np.empty_like(w)
    linear_backward_weight(gradient, dy, x, accumulate=False)
    adam_update(w, m, v, gradient, learning_rate, None, clock=clock, max_norm=0.0, **options)


def _product(s, _):
    return 2 * s["r"] * s["o"] * s["i"]


OPS = (
    Op("linear_forward", "y[r,o] before?[r,o] = x[r,i] w{o,i}", linear_forward, _product,
       {"activation": "identity"}, {"activation": ACTIVATIONS}),
    Op("linear_backward_input", "dx[r,i] = dy[r,o] w{o,i} x?[r,i] before?[r,i]", linear_backward_input, _product,
       {"activation": "identity"}, {"activation": ACTIVATIONS}),
    Op("linear_backward_weight", "dw{o,i} = dy[r,o] x[r,i]", linear_backward_weight, _product, {"accumulate": False}),
    Op("linear_backward_update", "w{o,i} m{o,i} v{o,i} = dy[r,o] x[r,i] learning_rate[steps]:float64",
       linear_backward_update, lambda s, _: _product(s, _) + 12 * s["o"] * (s["i"] + 1), ADAM),
)  # fmt: skip
