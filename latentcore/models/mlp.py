"""Fully connected layers with one function: the network that another library trained."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ..backends import Backend, get_backend
from ..checks import check_int, check_option, check_seed, shown
from ..layers import Linear, forward
from ..ops import Clock
from ..ops.linear import ACTIVATIONS
from ..ops.random import philox_uniform
from ..plan import Plan
from .files import check_keys, check_tensor
from .network import check_size, check_widths
from .parameters import ParametricModel

_NETWORK = ("widths", "activations", "dtype")


class MLP(ParametricModel):
    """Fully connected layers, to be run and not trained: an encoder, a decoder or any other such network, with weights from
    elsewhere (``set_parameters``, ``lc.from_torch``).

    widths: of the input and of each layer's output. activations: of each layer, as for VAE. dtype: "float32" or "float64".
    backend: as for VAE. random_state: a seed for the weights of ``initialize``, or None to draw one, kept as ``seed_``.
    """

    _lacks = ("weights", "initialize or lc.from_torch")
    _golden = "forward"

    def __init__(
        self,
        widths: Any = (784, 400, 20),
        activations: Any = ("relu", "identity"),
        *,
        dtype: str = "float32",
        backend: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.widths = widths
        self.activations = activations
        self.dtype = dtype
        self.backend = backend
        self.random_state = random_state

    def initialize(self) -> MLP:
        """Gives the model fresh weights, drawn as PyTorch draws them: uniform in +-1 / sqrt(inputs). Returns self. Raises
        TypeError or ValueError for wrong parameters."""
        layers, dtype = _check_network(self.get_params())
        check_size(_widths(layers), "widths")
        self._adopt(layers, dtype, get_backend(self.backend), check_seed(self.random_state))
        return self._draw()  # type: ignore[no-any-return]

    def _adopt(self, layers: list[Linear], dtype: str, backend: Backend, seed: int) -> None:
        """Takes on zeroed storage for the weights of layers."""
        self._network, self.seed_ = layers, seed
        self._hold(backend, self._allocate(backend, dtype), dtype, layers[0].inputs, layers[-1].outputs)

    def _layers(self) -> list[Linear]:
        return self._network

    def _build_forward(self, plan: Plan) -> None:
        plan.input("x", "rows", self._network[0].inputs)
        plan.output("y", "rows", self._network[-1].outputs)
        forward(plan, self._network, "x", output="y", train=False)

    def forward(self, X: Any, validate: bool = True) -> np.ndarray:
        """What the layers make of the rows of X (rows, widths[0]): (rows, widths[-1]). Raises NotFittedError, TypeError,
        ValueError."""
        X = self._check_data(X, validate=validate)
        return self._run(self._plan("forward"), {"x": X}, len(X), Clock())["y"]

    # ---- copies, pickles and files ---------------------------------------------------------------------------------

    def _describe(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        layers = self._network
        activations = [layer.activation for layer in layers]
        network = {"widths": _widths(layers), "activations": activations, "dtype": self._dtype}
        return {"network": network, "seed": self.seed_}, self.parameters()

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
        check_keys("header", header, ("network", "seed"))
        check_keys("network", header["network"], _NETWORK)
        widths = check_widths(header["network"]["widths"], "widths")
        if len(widths) > len(arrays):  # each layer has two
            raise ValueError(f"network: {len(widths)} widths, but {len(arrays)} tensors")
        self._network, dtype = _check_network(header["network"])
        shapes = self._shapes()
        check_keys("tensors", arrays, shapes)
        for name, shape in shapes.items():
            check_tensor(name, arrays[name], dtype, shape)
        self._adopt(self._network, dtype, backend, check_int(header["seed"], "seed", 0, 2**64 - 1))
        self._write("", arrays)

    def _golden_input(self) -> np.ndarray:
        return np.ascontiguousarray(philox_uniform(0, np.arange(2), self.n_features_in_, 0, 0), self._dtype)


def _widths(layers: list[Linear]) -> list[int]:
    return [layers[0].inputs, *(layer.outputs for layer in layers)]


def _check_network(given: Mapping[str, Any]) -> tuple[list[Linear], str]:
    """The layers of a model's parameters, and their dtype. Raises TypeError or ValueError."""
    widths, activations = check_widths(given["widths"], "widths"), given["activations"]
    if len(widths) < 2:
        raise ValueError(f"widths: expected the features and the width of a layer or more, got {shown(given['widths'])}")
    if isinstance(activations, str) or not hasattr(activations, "__len__") or len(activations) != len(widths) - 1:
        raise ValueError(f"activations: expected one for each of {len(widths) - 1} layers, got {shown(activations)}")
    layers = [
        Linear(str(i), a, b, check_option(activation, "activations", ACTIVATIONS))
        for i, ((a, b), activation) in enumerate(zip(pairwise(widths), activations))
    ]
    return layers, check_option(given["dtype"], "dtype", ("float32", "float64"))
