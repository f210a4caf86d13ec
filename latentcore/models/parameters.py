"""Models whose parameters are the weights of linear layers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backends import Backend
from ..checks import as_array, shown
from ..layers import Linear
from ..ops import Clock
from ..ops.random import STREAMS
from ..plan import Buffer, Plan
from .base import Model


class ParametricModel(Model):
    """Base of the models made of linear layers; not for direct use."""

    seed_: int

    @abstractmethod
    def _layers(self) -> list[Linear]:
        """All layers, in the order in which their weights are drawn."""

    def _weights(self) -> list[tuple[str, int, int]]:
        """Name, outputs and inputs of each weight."""
        return [(layer.name, layer.outputs, layer.inputs) for layer in self._layers()]

    def _allocate(self, backend: Backend, dtype: str, kind: str = "") -> dict[str, Any]:
        """Zeroed storage for the weights, or for what each has beside it."""
        return {
            name + kind: backend.allocate(Buffer(name, (out, inputs), dtype, "state", "weight"))
            for name, out, inputs in self._weights()
        }

    def _draw(self) -> Any:
        """Gives the layers fresh weights, drawn as PyTorch draws them. Returns self."""
        for step, layer in enumerate(self._layers()):
            plan = Plan("initialize", self._dtype)
            plan.output("u", "rows", layer.inputs + 1)
            plan.call("uniform_forward", u="u", stream=STREAMS["initialize"])
            u = np.empty((layer.outputs, layer.inputs + 1), self._dtype)
            self._backend.bind(plan, len(u), {}).run({"u": u}, Clock(rows=len(u), step=step, seed=self.seed_))
            self._backend.put(self._storage[layer.name], (2 * u - 1) / u.dtype.type(math.sqrt(layer.inputs)))
        return self

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of all weights by name: ``encoder.0.weight`` (out, in), ``encoder.0.bias`` (out,), ..., ``latent.weight``
        (for a VAE the rows of mu, then those of logvar), ``decoder.0.weight``, ..., in the model's dtype; with a learned
        variance also ``decoder.log_variance`` (1,). An MLP has ``0.weight``, ``0.bias``, ``1.weight``, ... A PyTorch
        state_dict of the same network has these names and shapes."""
        self._check_fitted()
        return self._read("")

    def _read(self, kind: str, source: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """All weights, their moments (kind ":m", ":v") or their gradients, in the plain layout."""
        source = self._storage if source is None else source
        plain: dict[str, np.ndarray] = {}
        for name, out, inputs in self._weights():
            buffer = Buffer(name, (out, inputs), self._dtype, "state", "weight")
            array = self._backend.get(source[name + kind], buffer).astype(self._dtype, copy=False)
            if inputs:
                plain[f"{name}.weight"] = np.ascontiguousarray(array[:, :-1])
                plain[f"{name}.bias"] = array[:, -1].copy()
            else:
                plain[name] = array[:, -1].copy()
        return plain

    def set_parameters(self, parameters: Mapping[str, Any]) -> Any:
        """Sets weights by name, some or all, from arrays of the shapes that ``parameters()`` gives; Adam's moments stay.
        Returns self. Raises KeyError for an unknown name, TypeError for what is no array of real numbers, ValueError for a
        wrong shape or numbers that are not finite; nothing is changed then."""
        self._check_fitted()
        self._write("", parameters)
        return self

    def _write(self, kind: str, parameters: Mapping[str, Any]) -> None:
        if not isinstance(parameters, Mapping):
            raise TypeError(f"parameters: expected a mapping of names to arrays, got {type(parameters).__name__}")
        shapes, checked = self._shapes(), {}
        for name, value in parameters.items():
            if name not in shapes:
                raise KeyError(f"parameters: expected names from {', '.join(shapes)}, got {shown(name)}")
            array = as_array(value, f"parameters: {name}")
            if array.shape != shapes[name]:
                raise ValueError(f"parameters: {name}: expected shape {shapes[name]}, got {array.shape}")
            with np.errstate(over="ignore"):
                array = array.astype(self._dtype, copy=False)
            if not np.isfinite(array).all():
                raise ValueError(f"parameters: {name}: expected finite numbers in {array.dtype}")
            checked[name] = array
        for name, out, inputs in self._weights():
            weight, bias = checked.get(f"{name}.weight"), checked.get(f"{name}.bias" if inputs else name)
            if weight is None and bias is None:
                continue
            storage = self._storage[name + kind]
            if bias is None or (weight is None and inputs):
                joined = self._backend.get(storage, Buffer(name, (out, inputs), self._dtype, "state", "weight"))
            else:
                joined = np.empty((out, inputs + 1), self._dtype)
            if weight is not None:
                joined[:, :-1] = weight
            if bias is not None:
                joined[:, -1] = bias
            self._backend.put(storage, joined)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of ``parameters()``."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, out, inputs in self._weights():
            shapes |= {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)} if inputs else {name: (1,)}
        return shapes
