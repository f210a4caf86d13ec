"""Models out of PyTorch, which is not imported: its modules are known by their names and what they show of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .checks import as_array, shown
from .models import MLP, VAE, Autoencoder
from .ops.linear import LEAKY_SLOPE

# A module of torch.nn -> the activation that it is, and what its attributes must be for that.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu", {}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": LEAKY_SLOPE}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "Softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
    "GELU": ("gelu", {"approximate": "none"}),
    "SiLU": ("silu", {}),
}
# What leaves rows as they are.
_PASSED: dict[str, dict[str, Any]] = {
    "Identity": {},
    "Dropout": {"training": False},
    "AlphaDropout": {"training": False},
    "Flatten": {"start_dim": 1, "end_dim": -1},
}
_LAYERS = ("Sequential", "Linear", *_ACTIVATIONS, *_PASSED)
_NAME = re.compile(r"(encoder|decoder)\.(\d+)\.(weight|bias)|latent\.(weight|bias)|decoder\.log_variance")


def from_torch(source: Any, **parameters: Any) -> MLP | VAE | Autoencoder:
    """A model with the weights that PyTorch trained, copied.

    source: a torch.nn.Sequential (they may be nested) of Linear, ReLU, LeakyReLU(0.01), Tanh, Sigmoid, Softplus(),
    GELU(), SiLU, and of what leaves rows as they are: Identity, Flatten() and, after ``eval()``, Dropout. It becomes an MLP.

    Or a state_dict of tensors or arrays named as ``parameters()`` of a VAE or an Autoencoder names them: encoder.0.weight,
    ..., latent.weight, decoder.0.weight, ..., and maybe decoder.log_variance. Numbers may be left out, as in a
    Sequential with activations between its layers; a bias that is missing is zero. It becomes a VAE if the latent layer
    puts out two numbers for each dimension of the code, and otherwise an Autoencoder. It does not say what stands between
    its layers: `activation`, of all but the latent and the last, and `likelihood` must be given.

    parameters: further arguments of the constructor of what it becomes. dtype: float64 if any weight is that, else float32,
    which half precision and bfloat16 become. Raises TypeError for a layer or a name that is unknown, saying where it
    stands, ValueError for shapes that do not fit each other and for weights that are not finite."""
    if isinstance(source, Mapping):
        return _from_state(source, parameters)
    weights: dict[str, np.ndarray] = {}
    activations: list[str] = []
    fresh = False  # whether the last layer may still get its activation
    for place, kind, module in _walk(source, "module"):
        if kind == "Linear":
            weights |= _linear(module, place, len(activations))
            activations.append("identity")
            fresh = True
        elif kind in _ACTIVATIONS:
            name, attributes = _ACTIVATIONS[kind]
            _check_attributes(module, place, attributes)
            if not fresh:
                raise TypeError(f"{place}: expected a Linear before the activation {kind}, got none")
            activations[-1], fresh = name, False
        else:
            _check_attributes(module, place, _PASSED[kind])
    if not activations:
        raise TypeError("module: expected a Linear layer or more, got none")
    shapes = [weights[f"{i}.weight"].shape for i in range(len(activations))]
    widths = (shapes[0][1], *(shape[0] for shape in shapes))
    model = MLP(widths, tuple(activations), **_with_dtype(parameters, weights))
    _fill(model.initialize(), weights)
    return model


def _walk(module: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """The layers of a module in the order in which rows pass them: where each stands, its kind, itself."""
    kind = type(module).__name__
    if not type(module).__module__.startswith("torch.nn.modules.") or kind not in _LAYERS:
        raise TypeError(f"{place}: expected a state_dict, or one of torch.nn's {', '.join(_LAYERS)}, got {shown(module)}")
    if kind != "Sequential":
        yield place, kind, module
        return
    for i, part in enumerate(module):
        yield from _walk(part, f"{place}[{i}]")


def _check_attributes(module: Any, place: str, expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        found = getattr(module, name)
        if found != value:
            raise TypeError(f"{place}: expected a {type(module).__name__} of {name}={value!r}, got {name}={found!r}")


def _linear(module: Any, place: str, index: int) -> dict[str, np.ndarray]:
    state = module.state_dict()
    for name in state:
        if name not in ("weight", "bias"):
            raise TypeError(f"{place}: expected a Linear of a weight and a bias, got one with {name!r}")
    return {f"{index}.{name}": _array(tensor, f"{place}.{name}") for name, tensor in state.items()}


def _from_state(state: Mapping[str, Any], parameters: dict[str, Any]) -> VAE | Autoencoder:
    for name in ("activation", "likelihood"):
        if name not in parameters:
            raise TypeError(f"{name}: expected it beside a state_dict, which does not say it; got none")
    weights = _renumbered(state)
    for name in ("latent.weight", "decoder.0.weight"):
        if name not in weights:
            raise ValueError(f"state_dict: {name!r} is missing")
    hidden: list[int] = []
    while f"encoder.{len(hidden)}.weight" in weights:
        hidden.append(len(weights[f"encoder.{len(hidden)}.weight"]))
    n_features = weights["encoder.0.weight" if hidden else "latent.weight"].shape[1]
    latent_dim, codes = weights["decoder.0.weight"].shape[1], len(weights["latent.weight"])
    if codes not in (latent_dim, 2 * latent_dim):
        raise ValueError(f"latent.weight: expected {latent_dim} or {2 * latent_dim} rows for the decoder, got {codes}")
    kind: type[VAE | Autoencoder] = VAE if codes == 2 * latent_dim else Autoencoder
    if "decoder.log_variance" in weights:
        parameters = {"variance": "learned", **parameters}
    model = kind(latent_dim, tuple(hidden), **_with_dtype(parameters, weights))
    _fill(model.initialize(n_features), weights)
    return model


def _renumbered(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a state_dict, the layers of each half numbered 0, 1, ..."""
    found = {name: _NAME.fullmatch(str(name)) for name in state}
    numbers: dict[str, list[int]] = {"encoder": [], "decoder": []}
    for name, match in found.items():
        if match is None:
            raise TypeError(f"state_dict: expected names like encoder.0.weight and latent.weight, got {shown(name)}")
        if match[1] and int(match[2]) not in numbers[match[1]]:
            numbers[match[1]].append(int(match[2]))
    weights = {}
    for name, match in found.items():
        array = _array(state[name], f"state_dict: {name}")
        if array.ndim != (2 if name.endswith("weight") else 1) or not array.size:
            raise ValueError(f"state_dict: {name}: expected that of a Linear layer, got shape {array.shape}")
        if match and match[1]:
            name = f"{match[1]}.{sorted(numbers[match[1]]).index(int(match[2]))}.{match[3]}"
        weights[name] = array
    return weights


def _array(tensor: Any, name: str) -> np.ndarray:
    """The numbers of a tensor; those of fewer than 32 bits become float32."""
    try:
        if hasattr(tensor, "detach"):
            tensor = tensor.detach().cpu()
            tensor = tensor.float() if tensor.element_size() < 4 else tensor
    except RuntimeError as error:  # without data, or of a kind that has none
        raise TypeError(f"{name}: expected an array of real numbers, got a {type(tensor).__name__} ({error})") from None
    return as_array(tensor, name)


def _with_dtype(parameters: dict[str, Any], weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    wide = any(array.dtype == np.float64 for array in weights.values())
    return {"dtype": "float64" if wide else "float32", **parameters}


def _fill(model: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a model these weights; a bias that is missing is zero."""
    shapes = model._shapes()
    absent = {name: np.zeros(shape) for name, shape in shapes.items() if name.endswith("bias") and name not in weights}
    for name in shapes:
        if name not in weights and name not in absent:
            raise ValueError(f"state_dict: {name!r} is missing")
    model.set_parameters({**weights, **absent})
