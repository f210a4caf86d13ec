"""The door: what comes in from users is checked once, here, with errors that name the argument, what was expected and
what came."""

from __future__ import annotations

import math
import numbers
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np


def check_array(
    value: Any,
    name: str,
    dtype: str,
    *,
    features: int | None = None,
    estimator: str | None = None,
    validate: bool = True,
    unit_interval: bool = False,
    empty: bool = False,
    device: Any = None,
) -> np.ndarray:
    """value as a C-contiguous (rows, features) array of dtype, in place where it is one; device: as for ``as_array``.
    estimator: the name of the one that expects so many features. Raises TypeError for what is no array of real numbers,
    ValueError for complex numbers, a wrong shape, no rows, NaN or infinity, data outside [0, 1]; scikit-learn's own checks
    know the errors by their wording."""
    array = as_array(value, name, device)
    check_shape(array, name, features=features, estimator=estimator, empty=empty)
    with np.errstate(over="ignore"):
        array = contiguous(array, dtype, device)
    if validate and array.size:
        low, high = float(array.min()), float(array.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            what = "NaN" if math.isnan(low) else "infinity"
            raise ValueError(f"{name}: expected finite numbers in {dtype}, got {what}")
        if unit_interval and (low < 0 or high > 1):
            hint = "; images of 0 to 255 want dividing by 255" if low >= 0 and 1 < high <= 255 else ""
            raise ValueError(f"{name}: expected data in [0, 1] for the Bernoulli likelihood, got {low:g} to {high:g}{hint}")
    return array


def check_shape(
    array: np.ndarray, name: str, *, features: int | None = None, estimator: str | None = None, empty: bool = False
) -> None:
    """What ``check_array`` says of the shape alone. Raises ValueError."""
    if array.ndim != 2:
        hint = "X.reshape(1, -1) makes one row of it" if array.ndim < 2 else "X.reshape(len(X), -1) makes rows of it"
        raise ValueError(
            f"{name}: expected a 2-D array (rows, features), got shape {array.shape}. Reshape your data: {hint}"
        )
    if array.shape[1] == 0 or (not empty and array.shape[0] == 0):
        none = "0 sample(s)" if array.shape[1] else "0 feature(s)"
        raise ValueError(
            f"{name}: expected at least one row and one feature, got {none} (shape={array.shape}) while a minimum of 1 is "
            "required."
        )
    if features is not None and array.shape[1] != features:
        given = array.shape[1]
        who = (
            f"; {name} has {given} features, but {estimator} is expecting {features} features as input" if estimator else ""
        )
        raise ValueError(f"{name}: expected {features} features, got {given} (shape {array.shape}){who}")


def as_array(value: Any, name: str, device: Any = None) -> np.ndarray:
    """value as an array of real numbers, in place where it is one; numbers in an array of objects become float64. device: a
    GPU, where what lies there stays. Raises TypeError for what is no array, ValueError for something ragged or complex."""
    masked = "numpy.ma" in sys.modules and np.ma.isMaskedArray(value)  # NumPy loads it on demand
    if hasattr(value, "toarray") or masked:
        kind = f"{'sparse ' if hasattr(value, 'toarray') else ''}{type(value).__name__}"
        raise TypeError(f"{name}: expected a dense array of real numbers, got a {kind}")
    foreign = hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray) and not hasattr(value, "__array__")
    try:
        array: np.ndarray | None = None if device is None else device.take(value)
        if array is None:
            array = np.from_dlpack(value) if foreign else np.asarray(value)
    except ValueError as error:
        what = "rows of different lengths" if "inhomogeneous" in str(error) else f"a {type(value).__name__} ({error})"
        raise ValueError(f"{name}: expected an array of real numbers, got {what}") from None
    except (TypeError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name}: expected an array of real numbers, got a {type(value).__name__} ({error})") from None
    if array.dtype.kind == "O" and array.ndim:
        return _from_objects(array, name)
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}. Complex data not supported")
    if array.dtype.kind not in "biuf":
        kind = f"dtype {array.dtype}" if array.ndim else type(value).__name__
        raise TypeError(f"{name}: expected a dense array of real numbers, got {kind}")
    return array


def contiguous(array: np.ndarray, dtype: Any, device: Any = None) -> np.ndarray:
    """What ``as_array`` gave as a C-contiguous array of that dtype, in place where it is one."""
    if type(array) is np.ndarray:
        return np.require(array, dtype, ["C", "A"])
    return device.xp.ascontiguousarray(array, dtype)  # type: ignore[no-any-return]


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """An array of objects, all of them numbers, as float64."""
    reals = np.empty(array.size)
    for at, value in enumerate(array.flat):
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError(f"{shown(value)} is text")
            reals[at] = float(value)
        except OverflowError:
            reals[at] = math.inf if value > 0 else -math.inf
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected a dense array of real numbers, got dtype object: {error}") from None
    return reals.reshape(array.shape)


def kept_dtype(array: np.ndarray) -> str:
    """The dtype in which data is kept where no parameter says it: float32 stays, all else becomes float64."""
    return "float32" if array.dtype.kind == "f" and array.dtype.itemsize == 4 else "float64"


def check_weights(value: Any, rows: int, name: str = "sample_weight", device: Any = None) -> np.ndarray:
    """value as the weights of so many rows: (rows,) float64 in main memory, finite and at least 0. Raises TypeError or
    ValueError."""
    array = as_array(value, name, device)
    weights = np.require(array if type(array) is np.ndarray else device.read(array), np.float64, ["C", "A"])
    if weights.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), got {weights.shape}")
    if not (np.isfinite(weights).all() and (not rows or weights.min() >= 0)):
        wrong = weights.min() if weights.min() < 0 else weights.max()
        raise ValueError(f"{name}: expected finite numbers of at least 0, got {wrong:g}")
    return weights


def shown(value: Any) -> str:
    """value in an error message: its repr on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of more digits than Python prints
        text = f"an integer of {int(value).bit_length()} bits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_int(value: Any, name: str, low: int, high: int | None = None) -> int:
    """value as an int within [low, high]. Raises TypeError or ValueError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {shown(value)}")
    number = int(value)
    if number < low or (high is not None and number > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {bounds}, got {shown(number)}")
    return number


def check_real(value: Any, name: str, low: float, high: float = math.inf, *, above: bool = False) -> float:
    """value as a finite float within [low, high], or above low. Raises TypeError or ValueError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number > high or number < low or (above and number == low):
        bounds = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f", at most {high:g}")
        raise ValueError(f"{name}: expected a finite number {bounds}, got {shown(value)}")
    return number


def check_option(value: Any, name: str, options: Collection[str]) -> str:
    """value, one of the options. Raises ValueError."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {shown(value)}")
    return value


def check_bool(value: Any, name: str) -> bool:
    """value, True or False. Raises TypeError."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def check_path(value: Any, name: str = "path") -> Path:
    """value, a str, bytes or os.PathLike, as a path. Raises TypeError; ValueError for what names no file."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name}: expected a str, bytes or os.PathLike, got {shown(value)}") from None
    if not text or "\0" in text:
        raise ValueError(f"{name}: expected the name of a file, got {shown(value)}")
    return Path(text)


def check_seed(random_state: Any, name: str = "random_state") -> int:
    """A seed of 64 bits: an int as it is, one drawn for None, one drawn from a NumPy generator or RandomState."""
    if random_state is None:
        return int.from_bytes(os.urandom(8), "little") >> 1
    if "numpy.random" in sys.modules:  # NumPy loads it on demand
        if isinstance(random_state, np.random.Generator):
            return int(random_state.integers(2**63))
        if isinstance(random_state, np.random.RandomState):
            return int(random_state.randint(2**31 - 1))
    return check_int(random_state, name, 0, 2**64 - 1)


def not_fitted(model: Any, lacks: str = "weights", call: str = "fit, lc.train or initialize") -> Exception:
    """The error of an untrained model: scikit-learn's NotFittedError if it can be imported, else one like it. lacks: what
    it does not have yet; call: what gives it that."""
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        NotFittedError = _NotFittedError
    name = type(model).__name__
    error: Exception = NotFittedError(f"this {name} has no {lacks} yet: call {call} first")
    return error


class _NotFittedError(ValueError, AttributeError):
    pass


_NotFittedError.__name__ = _NotFittedError.__qualname__ = "NotFittedError"
