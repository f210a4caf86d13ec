"""A GPU as the backend sees it, and the one that CuPy drives."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..ops.launches import Launch, Operand, Table
from .base import Arrays
from .binaries import Binary, binary_of


class Device(Protocol):
    """What the backend asks of a GPU. Its arrays have NumPy's attributes and indexing."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A zeroed array on the device."""

    def owns(self, array: Any) -> bool:
        """Whether an array lies on the device."""

    def address(self, array: Any) -> int:
        """Where its first element lies."""

    def write(self, array: Any, source: np.ndarray) -> None:
        """Copies a host array of the same shape and dtype into one of the device."""

    def read(self, array: Any) -> np.ndarray:
        """A copy on the host, after all that was launched before."""

    def record(self, launches: Sequence[Launch], arrays: Arrays, often: bool) -> Callable[[], None]:
        """The launches as one function, over arrays by the names of their operands. often: it will be called many times."""


def slots_of(launch: Launch, hidden: int, address: Callable[[Any], int], arrays: Arrays, tables: Sequence[Any]) -> bytes:
    """The arguments of a launch, eight bytes each: addresses, int32, float64; then null for the hidden ones. tables: the
    device's copies of the launch's, in order."""
    left = iter(tables)
    packed = []
    for value in launch.arguments.values():
        if isinstance(value, Operand):
            packed.append(struct.pack("<Q", address(arrays[value.name])))
        elif isinstance(value, Table):
            packed.append(struct.pack("<Q", address(next(left))))
        elif isinstance(value, float):
            packed.append(struct.pack("<d", value))
        elif value is not None or launch.kernel.language == "numba":
            packed.append(struct.pack("<q", value or 0))  # the low half is the int32
    return b"".join(packed) + bytes(8 * hidden)


def table_of(table: Table, address: Callable[[Any], int], arrays: Arrays) -> np.ndarray:
    """A table as int64."""
    rows = [[address(arrays[v.name]) if isinstance(v, Operand) else v for v in row] for row in table.rows]
    return np.array(rows, np.int64)


class Arguments:
    """The arguments of a launch where the driver wants them: an array of addresses, one of each slot."""

    def __init__(self, slots: bytes) -> None:
        self.slots = np.frombuffer(bytearray(slots), np.uint64)
        self.table = self.slots.ctypes.data + 8 * np.arange(len(self.slots), dtype=np.uint64)
        self.address = int(self.table.ctypes.data)


class CupyDevice:
    """The current CUDA device, through CuPy. Work goes to the caller's current stream."""

    def __init__(self) -> None:
        """Raises ImportError or RuntimeError where there is no CuPy or no GPU."""
        try:
            import cupy
            from cupy_backends.cuda.api import driver
        except ImportError as error:
            raise ImportError(f"backend 'cuda': CuPy cannot be imported ({error}); install latentcore[cuda]") from None
        if not cupy.cuda.is_available():
            raise RuntimeError("backend 'cuda': no CUDA device: a GPU and NVIDIA's driver are needed")
        self._cupy, self._driver = cupy, driver
        self.arch = int(cupy.cuda.Device().compute_capability)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._cupy.zeros(shape, dtype)

    def owns(self, array: Any) -> bool:
        return isinstance(array, self._cupy.ndarray)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def write(self, array: Any, source: np.ndarray) -> None:
        array.set(np.ascontiguousarray(source))

    def read(self, array: Any) -> np.ndarray:
        return self._cupy.asnumpy(array)  # type: ignore[no-any-return]

    @functools.lru_cache(maxsize=None)  # noqa: B019, the one device lives as long as the process
    def _function(self, binary: Binary) -> Any:
        module = self._cupy.cuda.function.Module()
        module.load(binary.code)
        function = module.get_function(binary.entry)
        if binary.shared > 48 * 1024:
            attribute = self._driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._driver.funcSetAttribute(function.ptr, attribute, binary.shared)
        return function

    def record(self, launches: Sequence[Launch], arrays: Arrays, often: bool) -> Callable[[], None]:
        calls, kept = [], []
        for launch in launches:
            binary = binary_of(launch, self.arch)
            tables = [self._cupy.asarray(table_of(v, self.address, arrays)) for v in launch.arguments.values() if isinstance(v, Table)]
            arguments = Arguments(slots_of(launch, binary.hidden, self.address, arrays, tables))
            kept.append((arguments, tables, arrays))
            calls.append((self._function(binary).ptr, *launch.grid, binary.threads, 1, 1, binary.shared, arguments.address))

        def launch_all() -> None:
            stream, launch_one = self._cupy.cuda.get_current_stream().ptr, self._driver.launchKernel
            for function, x, y, z, threads, one, also, shared, address in calls:
                launch_one(function, x, y, z, threads, one, also, shared, stream, address, 0)
            assert kept  # the addresses are theirs

        if not often:
            return launch_all
        own = self._cupy.cuda.Stream(non_blocking=True)
        with own:
            own.begin_capture()
            try:
                launch_all()
            finally:
                graph = own.end_capture()

        def replay() -> None:
            graph.launch(stream=self._cupy.cuda.get_current_stream())
            assert kept

        return replay
