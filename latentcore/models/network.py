"""The architecture that the weights of a model belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..checks import check_int, check_option, check_real, shown
from ..ops.linear import ACTIVATIONS

LIKELIHOODS = ("bernoulli", "gaussian")
_MAX_WIDTH = 2**31 - 1
_MAX_WEIGHTS = 2**42  # of a layer


@dataclass(frozen=True)
class Network:
    """The checked architecture that a model's weights belong to."""

    n_features: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: str
    likelihood: str
    variance: float | str
    dtype: str

    @property
    def learned_variance(self) -> bool:
        """Whether the decoder has a log-variance of its own."""
        return self.likelihood == "gaussian" and self.variance == "learned"

    def check_size(self) -> None:
        """Raises MemoryError for a layer that no machine holds."""
        for a, b in pairwise((self.n_features, *self.hidden, self.latent_dim)):
            if a * b > _MAX_WEIGHTS:
                raise MemoryError(f"hidden: a layer of {a} times {b} weights takes more memory than there is")


def check_network(given: Mapping[str, Any], n_features: Any) -> Network:
    """The network of a model's parameters, for data of so many features. Raises TypeError or ValueError."""
    hidden, variance = given["hidden"], given["variance"]
    if isinstance(hidden, (int, np.integer)) and not isinstance(hidden, bool):
        hidden = (hidden,)
    if isinstance(hidden, str) or not hasattr(hidden, "__iter__"):
        raise TypeError(f"hidden: expected a sequence of layer widths, got {shown(hidden)}")
    if isinstance(variance, str) and variance != "learned":
        raise ValueError(f"variance: expected a number above 0 or 'learned', got {shown(variance)}")
    if variance != "learned":
        variance = check_real(variance, "variance", 0, above=True)
    return Network(
        check_int(n_features, "n_features", 1, _MAX_WIDTH),
        check_int(given["latent_dim"], "latent_dim", 1, _MAX_WIDTH),
        tuple(check_int(width, "hidden", 1, _MAX_WIDTH) for width in hidden),
        check_option(given["activation"], "activation", ACTIVATIONS),
        check_option(given["likelihood"], "likelihood", LIKELIHOODS),
        variance,
        check_option(given["dtype"], "dtype", ("float32", "float64")),
    )
