"""What a neural model is beside its parameters: its network, weights, moments, progress and history, for copies, pickles
and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backends import Backend
from ..checks import check_int, shown
from ..layers import MOMENTS
from .files import check_keys, check_tensor
from .network import Network, check_network

_KINDS = ("", *MOMENTS)
_KEYS = ("network", "seed", "progress", "minibatches", "history")
_HISTORY = "history:"


def describe(model: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All that a fitted model holds, as JSON and arrays."""
    arrays = {name + kind: array for kind in _KINDS for name, array in model._read(kind).items()}
    arrays |= {_HISTORY + name: array for name, array in model.history_.items()}
    header = {
        "network": model._network._asdict() | {"hidden": list(model._network.hidden)},
        "seed": model.seed_,
        "progress": model._progress.tolist(),
        "minibatches": model._minibatches and list(model._minibatches),
        "history": list(model.history_),
    }
    return header, arrays


def restore(model: Any, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
    """Makes a new model what ``describe`` described. Raises TypeError or ValueError for what it cannot be."""
    check_keys("header", header, _KEYS)
    check_keys("network", header["network"], Network._fields)
    network = check_network(header["network"], header["network"]["n_features"])
    if len(network.hidden) > len(arrays):
        raise ValueError(f"network: {len(network.hidden)} hidden layers, but {len(arrays)} tensors")
    progress, minibatches = _progress(header["progress"], header["minibatches"])
    seed = check_int(header["seed"], "seed", 0, 2**64 - 1)
    model._network = network
    history = _history(header["history"], arrays, progress[1], network.latent_dim)
    _check_tensors(model, {name: array for name, array in arrays.items() if not name.startswith(_HISTORY)})
    model._adopt(network, backend, seed)
    weights, *moments = ({name: arrays[name + kind] for name in model._shapes()} for kind in _KINDS)
    model._write("", weights)
    model._moments = dict(zip(MOMENTS, moments))
    model._progress[:] = progress
    model._minibatches = minibatches
    model.history_ = history


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
    check_keys("history", found, dict.fromkeys(names))
    lengths = {array.shape[:1] for array in found.values()}
    for name, array in found.items():
        wide = ((latent_dim,), (0,)) if name == "kl_per_dim" else ((),)
        if array.dtype not in (np.float64, np.int64) or array.ndim < 1 or array.shape[1:] not in wide:
            raise ValueError(f"{_HISTORY}{name}: expected numbers of each epoch, got {array.dtype} {array.shape}")
        if len(lengths) > 1 or len(array) > epochs:
            raise ValueError(f"{_HISTORY}{name}: expected at most {epochs} epochs, in all alike, got {len(array)}")
    return {name: np.array(found[name]) for name in names}


def _check_tensors(model: Any, tensors: Mapping[str, np.ndarray]) -> None:
    shapes = {name + kind: shape for name, shape in model._shapes().items() for kind in _KINDS}
    check_keys("tensors", tensors, shapes)
    for name, shape in shapes.items():
        check_tensor(name, tensors[name], model._network.dtype, shape)
        low, high = tensors[name].min(), tensors[name].max()
        if not np.isfinite((low, high)).all():
            raise ValueError(f"{name}: expected finite numbers in {model._network.dtype}")
        if name.endswith(":v") and low < 0:
            raise ValueError(f"{name}: expected no negative numbers, got {low:g}")
