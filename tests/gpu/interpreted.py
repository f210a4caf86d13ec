"""A device of NumPy arrays on which Triton's interpreter and Numba's simulator run the kernels.

TRITON_INTERPRET=1 and NUMBA_ENABLE_CUDASIM=1 must be set before anything is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import simulator  # noqa: F401, replaces a part of Numba
from triton import language as tl
from triton.runtime import interpreter

from latentcore.backends.base import Arrays
from latentcore.backends.device import table_of
from latentcore.ops.launches import Launch, Operand, Table

# NumPy 2.4 makes no index of an array of one element, which the interpreter's loops need.
_patch_tensor = interpreter._patch_lang_tensor


def _patched(tensor: Any, scope: Any) -> None:
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.reshape(())))


interpreter._patch_lang_tensor = _patched


def _dot(builder: Any, a: Any, b: Any, sums: Any, precision: Any, imprecise: Any) -> Any:
    """One chain of multiply-adds over ascending k. The order of NumPy's product depends on where in the tile a row lies."""
    result = sums.data.copy()
    for k in range(b.data.shape[0]):
        result += a.data[:, k, None] * b.data[k]
    return interpreter.TensorHandle(result, sums.dtype.scalar)


interpreter.InterpreterBuilder.create_dot = _dot
# Of a number and NaN a GPU takes the number, unless it is told otherwise.
interpreter.InterpreterBuilder.create_minnumf = lambda self, a, b: self.binary_op(a, b, np.fmin)
interpreter.InterpreterBuilder.create_maxnumf = lambda self, a, b: self.binary_op(a, b, np.fmax)


class Pointer:
    """What the interpreter asks of a tensor, over a NumPy array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype = array, str(array.dtype)

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def untyped_storage(self) -> Pointer:
        return self

    def cpu(self) -> Pointer:
        return self

    def new_empty(self, *args: Any, **options: Any) -> Pointer:
        return self

    def set_(self, *args: Any) -> Pointer:
        return self

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)

    def copy_(self, other: Any) -> Pointer:
        return self


class InterpretedDevice:
    """Runs every launch at once, on the CPU. What is allocated holds NaN, as nothing may count on zeros but states."""

    xp: Any = np

    def take(self, value: Any) -> Any:
        return value if self.owns(value) else None

    def number(self) -> int:
        return 0

    def stream(self) -> int:
        return 0

    def wait(self) -> None:
        pass

    def solving(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def eigh(self, c: np.ndarray, vectors: bool) -> tuple[np.ndarray, np.ndarray | None]:
        return self.xp.linalg.eigh(c) if vectors else (self.xp.linalg.eigvalsh(c), None)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = np.zeros(size + 256, np.uint8)
        start = -raw.ctypes.data % 256
        return raw[start : start + size].view(dtype).reshape(shape)

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def address(self, array: np.ndarray) -> int:
        return array.ctypes.data

    def write(self, array: np.ndarray, source: np.ndarray) -> None:
        array[...] = source

    def read(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def record(self, launches: Sequence[Launch], arrays: Arrays, whole: bool) -> Callable[[], None]:
        def run() -> None:
            for launch in launches:
                (_triton if launch.kernel.language == "triton" else _numba)(self, launch, arrays)

        return run


def _triton(device: InterpretedDevice, launch: Launch, arrays: Arrays) -> None:
    kept = []

    def argument(value: Any) -> Any:
        if isinstance(value, Operand):
            return Pointer(arrays[value.name])
        if isinstance(value, Table):
            kept.append(table_of(value, device.address, arrays))
            return Pointer(kept[-1])
        if isinstance(value, float):
            return tl.tensor(interpreter.TensorHandle(np.array([value]), tl.float64), tl.float64)
        return value

    arguments = {name: argument(value) for name, value in launch.arguments.items()}
    with np.errstate(all="ignore"):
        launch.kernel.jit[launch.grid](**arguments, **launch.constants)


def _numba(device: InterpretedDevice, launch: Launch, arrays: Arrays) -> None:
    from numba import cuda

    def argument(value: Any) -> Any:
        return arrays[value.name].reshape(-1) if isinstance(value, Operand) else value

    kernel = cuda.jit(launch.kernel.function)
    with np.errstate(all="ignore"):
        kernel[launch.grid, launch.threads](*(argument(v) for v in launch.arguments.values()))
