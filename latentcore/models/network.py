"""The architecture that the weights of a model belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_int, check_option, check_real, shown
from ..ops.linear import ACTIVATIONS

LIKELIHOODS = ("bernoulli", "gaussian")
_MAX_WIDTH = 2**31 - 1
_MAX_WEIGHTS = 2**42  # of a layer


class Network(NamedTuple):
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


def check_size(widths: Iterable[int], name: str) -> None:
    """Raises MemoryError for a layer between two of these widths that no machine holds."""
    for a, b in pairwise(widths):
        if a * b > _MAX_WEIGHTS:
            raise MemoryError(f"{name}: a layer of {a} times {b} weights takes more memory than there is")


def check_widths(value: Any, name: str) -> tuple[int, ...]:
    """value, a sequence of integers of at least 1 or one of them, as a tuple. Raises TypeError or ValueError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = (value,)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}: expected a sequence of layer widths, got {shown(value)}")
    return tuple(check_int(width, name, 1, _MAX_WIDTH) for width in value)


def check_network(given: Mapping[str, Any], n_features: Any) -> Network:
    """The network of a model's parameters, for data of so many features. Raises TypeError or ValueError."""
    variance = given["variance"]
    if isinstance(variance, str) and variance != "learned":
        raise ValueError(f"variance: expected a number above 0 or 'learned', got {shown(variance)}")
    if variance != "learned":
        variance = check_real(variance, "variance", 0, above=True)
    return Network(
        check_int(n_features, "n_features", 1, _MAX_WIDTH),
        check_int(given["latent_dim"], "latent_dim", 1, _MAX_WIDTH),
        check_widths(given["hidden"], "hidden"),
        check_option(given["activation"], "activation", ACTIVATIONS),
        check_option(given["likelihood"], "likelihood", LIKELIHOODS),
        variance,
        check_option(given["dtype"], "dtype", ("float32", "float64")),
    )
