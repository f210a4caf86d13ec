"""Models in files: the parameters, what a model says of itself, its plans, and an example to recompute."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..backends import get_backend
from ..checks import shown
from ..io import check_writable, write_model

_KEYS = ("format", "model", "config", "golden", "plans")  # of every model's header
_GOLDEN = ("golden:input", "golden:output")


# ---- writing ---------------------------------------------------------------------------------------------------------


def check_save(model: Any, path: Any, name: str) -> None:
    """Raises what saving would raise, save for a full disk."""
    _config(model)
    check_writable(path, name)


def save(model: Any, path: Any) -> None:
    """Writes a model as one file. Raises TypeError or ValueError for parameters that no file can hold, OSError."""
    config = _config(model)
    described, tensors = model._describe()
    golden = model._golden_input()
    header = {"model": type(model).__name__, "config": config, **described, "golden": model._golden, "plans": _plans(model)}
    tensors = tensors | model._derived() | dict(zip(_GOLDEN, (golden, model._golden_output(golden))))
    write_model(path, header, tensors)


def _plans(model: Any) -> dict[str, Any]:
    """The plan of each function, as JSON."""
    return {function: model._plan(function).to_dict() for function in model._functions()}


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
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a sound model file: {error}") from None


def _restored(kind: type[Any], header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], backend: str) -> Any:
    for name in _KEYS:
        if name not in header:
            raise ValueError(f"header: {name!r} is missing")
    check_keys("config", header["config"], kind._defaults())
    check_keys("plans", header["plans"], kind._functions())
    if header["golden"] != kind._golden:
        raise ValueError(f"golden: expected {kind._golden!r}, got {shown(header['golden'])}")
    model = kind(**{name: _from_json(name, value) for name, value in header["config"].items()})
    described = {name: value for name, value in header.items() if name not in _KEYS}
    apart = (*_GOLDEN, *kind._derives)
    model._restore(described, {name: a for name, a in tensors.items() if name not in apart}, get_backend(backend))
    for function, plan in _plans(model).items():
        if plan != header["plans"][function]:
            raise ValueError(f"plans: {function}: it differs from the plan of this version")
    derived = model._derived()
    check_keys("tensors", {name: tensors[name] for name in kind._derives if name in tensors}, derived)
    for name, array in derived.items():
        check_tensor(name, tensors[name], str(array.dtype), array.shape)
        if not np.array_equal(tensors[name], array):
            raise ValueError(f"{name}: it differs from what the other tensors make")
    _check_golden(model, *(tensors[name] for name in _GOLDEN))
    model.backend = backend
    return model


def check_keys(name: str, found: Any, expected: Collection[str]) -> None:
    """Raises TypeError or ValueError unless `found` maps just the expected keys."""
    if not isinstance(found, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {shown(found)}")
    for key in expected:
        if key not in found:
            raise ValueError(f"{name}: {key!r} is missing")
    for key in found:
        if key not in expected:
            raise ValueError(f"{name}: {shown(key)} is unknown")


def check_tensor(name: str, found: np.ndarray, dtype: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless a tensor is of that dtype and shape."""
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} {shape}, got {found.dtype} {found.shape}")


def _from_json(name: str, value: Any) -> Any:
    return tuple(_plain(name, v) for v in value) if isinstance(value, list) else _plain(name, value)


def _check_golden(model: Any, golden: np.ndarray, stored: np.ndarray) -> None:
    """Whether the model makes of the golden input the output that was stored, up to rounding."""
    computed = model._golden_output(model._check_data(golden, "golden:input"))
    length = max(dim for b in model._plan(model._golden).of_role("state") for dim in b.shape)
    with np.errstate(all="ignore"):
        scale = float(np.abs(computed).max()) + 1
        tolerance = 100 * float(np.finfo(model._dtype).eps) * math.sqrt(length) * scale
        worst = float(np.abs(computed.astype(np.float64) - stored).max())
    if not worst <= tolerance:
        raise ValueError(f"golden:output: the weights miss it by {worst:.2g}, at most {tolerance:.2g} is rounding")
