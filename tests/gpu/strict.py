"""A device whose arrays behave as CuPy's do: they mix with none of NumPy's, and only `read` brings them home. Their module
stands for CuPy, and knows which of its names were used."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from interpreted import InterpretedDevice

from latentcore.backends.base import Arrays, lies_on_gpu
from latentcore.ops.launches import Launch


class DeviceArray(np.ndarray):
    """An array of the device."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any) -> Any:
        given, into = plain(inputs, ufunc.__name__), plain(out, ufunc.__name__)
        return there(getattr(ufunc, method)(*given, **options, **({"out": into} if out else {})))

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with an array of the device")

    def __setitem__(self, place: Any, value: Any) -> None:
        np.asarray(self)[plain((place,), "[]")[0]] = plain((value,), "[]=")[0]

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def argmax(self, axis: int) -> Any:
        return there(np.asarray(self).argmax(axis))


def plain(values: Any, what: str) -> Any:
    """Arrays of the device as NumPy's, within sequences too. Raises TypeError for an array of NumPy's."""
    if isinstance(values, (tuple, list)):
        return type(values)(plain(value, what) for value in values)
    if type(values) is np.ndarray and values.ndim:
        raise TypeError(f"{what}: an array of NumPy's was given to the device")
    return np.asarray(values) if isinstance(values, DeviceArray) else values


def there(result: Any) -> Any:
    """Arrays of NumPy's as the device's, within tuples too."""
    if isinstance(result, (tuple, list)):
        return tuple(there(each) for each in result)
    return result.view(DeviceArray) if isinstance(result, np.ndarray) else result


class Module:
    """CuPy, or a module of it, over NumPy's. used: the names that were asked for."""

    def __init__(self, device: StrictDevice, source: types.ModuleType, used: set[str], prefix: str = "") -> None:
        self._device, self._source, self._used, self._prefix = device, source, used, prefix

    def __getattr__(self, name: str) -> Any:
        if name == "linalg":
            return Module(self._device, np.linalg, self._used, "linalg.")
        self._used.add(self._prefix + name)
        if name == "asarray":
            return self._device.upload
        function = getattr(self._source, name)

        def call(*args: Any, **options: Any) -> Any:
            given = {key: plain(value, name) for key, value in options.items()}
            made = function(*plain(args, name), **given)
            if name == "empty":
                made.reshape(-1).view(np.uint8)[...] = 0xFF
            return options["out"] if "out" in options else there(made)

        return call


class StrictDevice(InterpretedDevice):
    """Interprets kernels over such arrays. used: the names of CuPy's that were asked for."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.xp = Module(self, np, self.used)

    def __str__(self) -> str:
        return "an interpreted device"

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return super().zeros(shape, dtype).view(DeviceArray)

    def owns(self, array: Any) -> bool:
        return isinstance(array, DeviceArray)

    def take(self, value: Any) -> Any:
        if self.owns(value):
            return value
        return value.array if lies_on_gpu(value) else None  # NumPy takes nothing that says it lies elsewhere

    def upload(self, array: np.ndarray) -> np.ndarray:
        made = self.zeros(array.shape, str(array.dtype))
        self.write(made, array)
        return made

    def write(self, array: np.ndarray, source: np.ndarray) -> None:
        assert self.owns(array)
        np.asarray(array)[...] = np.asarray(source)

    def read(self, array: np.ndarray) -> np.ndarray:
        assert self.owns(array)
        return np.array(np.asarray(array))

    def record(self, launches: Sequence[Launch], arrays: Arrays, whole: bool) -> Callable[[], None]:
        assert all(self.owns(array) for array in arrays.values())
        return super().record(launches, {name: np.asarray(array) for name, array in arrays.items()}, whole)
