"""Models in pickles and files."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ..backends import get_backend
from ..checks import check_int, shown
from ..io import check_writable, write_model
from ..ops.random import philox_uniform
from .network import Network, check_network

_FUNCTIONS = ("encode", "decode", "reconstruct")  # whose plans a file holds
_KINDS = ("", ":m", ":v")  # weights and Adam's moments
_KEYS = ("format", "model", "config", "network", "seed", "progress", "minibatches", "history", "plans")
_HISTORY = "history:"


def state_of(model: Any) -> dict[str, Any]:
    """What a pickle or a copy of a model holds."""
    state: dict[str, Any] = {"params": model.get_params()}
    if hasattr(model, "_storage"):
        state["fitted"] = {
            "network": model._network,
            "backend": model._backend.name,
            "seed": model.seed_,
            "weights": {kind: model._read(kind) for kind in _KINDS},
            "progress": model._progress.copy(),
            "minibatches": model._minibatches,
            "history": dict(model.history_),
        }
    return state


def set_state(model: Any, state: Mapping[str, Any]) -> None:
    """Makes a new model what ``state_of`` described."""
    vars(model).update(state["params"])
    if "fitted" in state:
        fitted = state["fitted"]
        model._adopt(fitted["network"], get_backend(fitted["backend"]), fitted["seed"])
        for kind, weights in fitted["weights"].items():
            model._write(kind, weights)
        model._progress[:] = fitted["progress"]
        model._minibatches = fitted["minibatches"]
        model.history_ = fitted["history"]


# ---- writing ---------------------------------------------------------------------------------------------------------


def check_save(model: Any, path: Any, name: str) -> None:
    """Raises what saving would raise, save for a full disk."""
    _config(model)
    check_writable(path, name)


def save(model: Any, path: Any) -> None:
    """Writes a model as one file. Raises TypeError or ValueError for parameters that no file can hold, OSError."""
    config = _config(model)
    tensors = {name + kind: array for kind in _KINDS for name, array in model._read(kind).items()}
    tensors |= {_HISTORY + name: array for name, array in model.history_.items()}
    network = model._network
    golden = philox_uniform(0, np.arange(2), network.n_features, 0, 0).astype(network.dtype)
    tensors |= {"golden:input": golden, "golden:output": model.reconstruct(golden)}
    header = {
        "model": type(model).__name__,
        "config": config,
        "network": vars(network) | {"hidden": list(network.hidden)},
        "seed": model.seed_,
        "progress": model._progress.tolist(),
        "minibatches": model._minibatches,
        "history": list(model.history_),
        "plans": {f: model._plan(f).to_dict() for f in _FUNCTIONS},
    }
    write_model(path, header, tensors)


def _config(model: Any) -> dict[str, Any]:
    """The constructor's arguments as JSON."""
    config = {}
    for name, value in model.get_params().items():
        if isinstance(value, (tuple, list, range, np.ndarray)):
            config[name] = [_plain(name, v) for v in value]
        else:
            config[name] = _plain(name, value)
    return config


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, int, float, type(None))):
        hint = "; give it to lc.train" if name in ("learning_rate", "random_state") else ""
        raise TypeError(f"{name}: expected a number or a text, which a file can hold, got {shown(value)}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, which a file can hold, got {value}")
    return value


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(kind: type[Any], path: Any, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], backend: str) -> Any:
    """A model from what a file holds; everything in it is checked before it is believed. Raises ValueError."""
    try:
        return _restored(kind, header, tensors, backend)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a sound model file: {error}") from None


def _restored(kind: type[Any], header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], backend: str) -> Any:
    _check_keys("header", header, _KEYS)
    _check_keys("config", header["config"], kind._defaults())
    _check_keys("network", header["network"], [f.name for f in fields(Network)])
    _check_keys("plans", header["plans"], _FUNCTIONS)
    config = {name: _from_json(name, value) for name, value in header["config"].items()}
    network = check_network(header["network"], header["network"]["n_features"])
    if len(network.hidden) > len(tensors):
        raise ValueError(f"network: {len(network.hidden)} hidden layers, but {len(tensors)} tensors")
    progress, minibatches = _progress(header["progress"], header["minibatches"])
    seed = check_int(header["seed"], "seed", 0, 2**64 - 1)

    model = kind(**config)
    model._network = network
    history = _history(header["history"], tensors, progress[1], network.latent_dim)
    _check_tensors(model, {name: array for name, array in tensors.items() if not name.startswith(_HISTORY)})
    model._adopt(network, get_backend(backend), seed)
    names = list(model._shapes())
    for suffix in _KINDS:
        model._write(suffix, {name: tensors[name + suffix] for name in names})
    for function in _FUNCTIONS:
        if model._plan(function).to_dict() != header["plans"][function]:
            raise ValueError(f"plans: {function}: it differs from the plan of this version")
    _check_golden(model, tensors["golden:input"], tensors["golden:output"])
    model.backend = backend
    model._progress[:] = progress
    model._minibatches = minibatches
    model.history_ = history
    return model


def _check_keys(name: str, found: Any, expected: Collection[str]) -> None:
    if not isinstance(found, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {shown(found)}")
    for key in expected:
        if key not in found:
            raise ValueError(f"{name}: {key!r} is missing")
    for key in found:
        if key not in expected:
            raise ValueError(f"{name}: {shown(key)} is unknown")


def _from_json(name: str, value: Any) -> Any:
    return tuple(_plain(name, v) for v in value) if isinstance(value, list) else _plain(name, value)


def _progress(progress: Any, minibatches: Any) -> tuple[list[int], tuple[int, int] | None]:
    """Step, epoch and offset, and the rows and the batch that an interrupted epoch belongs to."""
    if not isinstance(progress, list) or len(progress) != 3:
        raise ValueError(f"progress: expected step, epoch and offset, got {shown(progress)}")
    step = check_int(progress[0], "progress: step", 0, 2**62)
    epoch = check_int(progress[1], "progress: epoch", 0, min(step, 2**31 - 1))
    offset = check_int(progress[2], "progress: offset", 0)
    if minibatches is None:
        data_rows, batch = 1, 1
    elif isinstance(minibatches, list) and len(minibatches) == 2:
        data_rows = check_int(minibatches[0], "minibatches: rows", 1, 2**32 - 1)
        batch = check_int(minibatches[1], "minibatches: batch", 1, data_rows)
    else:
        raise ValueError(f"minibatches: expected rows and batch, got {shown(minibatches)}")
    if offset >= data_rows or offset % batch:
        raise ValueError(f"progress: offset: expected a multiple of {batch} below {data_rows}, got {offset}")
    return [step, epoch, offset], None if minibatches is None else (data_rows, batch)


def _history(names: Any, tensors: Mapping[str, np.ndarray], epochs: int, latent_dim: int) -> dict[str, np.ndarray]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"history: expected a list of names, got {shown(names)}")
    found = {name.removeprefix(_HISTORY): array for name, array in tensors.items() if name.startswith(_HISTORY)}
    _check_keys("history", found, dict.fromkeys(names))
    lengths = {array.shape[:1] for array in found.values()}
    for name, array in found.items():
        wide = ((latent_dim,), (0,)) if name == "kl_per_dim" else ((),)
        if array.dtype not in (np.float64, np.int64) or array.ndim < 1 or array.shape[1:] not in wide:
            raise ValueError(f"{_HISTORY}{name}: expected numbers of each epoch, got {array.dtype} {array.shape}")
        if len(lengths) > 1 or len(array) > epochs:
            raise ValueError(f"{_HISTORY}{name}: expected at most {epochs} epochs, in all alike, got {len(array)}")
    return {name: found[name] for name in names}


def _check_tensors(model: Any, tensors: Mapping[str, np.ndarray]) -> None:
    network = model._network
    shapes = {name + kind: shape for name, shape in model._shapes().items() for kind in _KINDS}
    shapes |= dict.fromkeys(("golden:input", "golden:output"), (2, network.n_features))
    _check_keys("tensors", tensors, shapes)
    for name, shape in shapes.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != network.dtype:
            raise ValueError(f"{name}: expected {network.dtype} {shape}, got {found.dtype} {found.shape}")
        if name.endswith(":v") and found.min() < 0:
            raise ValueError(f"{name}: expected no negative numbers, got {found.min():g}")


def _check_golden(model: Any, golden: np.ndarray, stored: np.ndarray) -> None:
    """Whether the weights make of the golden input the output that was stored, up to rounding."""
    network = model._network
    computed = model.reconstruct(model._check_data(golden, "golden:input"))
    length = max(network.n_features, network.latent_dim, *network.hidden)
    with np.errstate(all="ignore"):
        scale = float(np.abs(computed).max()) + 1
        tolerance = 100 * float(np.finfo(network.dtype).eps) * math.sqrt(length) * scale
        worst = float(np.abs(computed.astype(np.float64) - stored).max())
    if not worst <= tolerance:
        raise ValueError(f"golden:output: the weights miss it by {worst:.2g}, at most {tolerance:.2g} is rounding")
