"""A GPU as the backend sees it, and the one that CuPy drives."""

from __future__ import annotations

import itertools
import os
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from ..ops.launches import Launch, Operand, Table
from .base import Arrays, lies_on_gpu
from .binaries import ALIGNED, Binary, Variant, binary_of, variant_of
from .cusolver import eigh_batched, load_library

_STATIC = 48 * 1024  # bytes of shared memory that a kernel gets without asking


class Device(Protocol):
    """What the backend asks of a GPU. Its arrays have NumPy's attributes and indexing."""

    xp: Any  # the module of its arrays: CuPy

    def take(self, value: Any) -> Any:
        """An array that lies on the device, CuPy's or another library's, as one of its own; None for anything else."""

    def number(self) -> int:
        """Which GPU is the current one."""

    def stream(self) -> int:
        """The stream that the caller's work goes to."""

    def wait(self) -> None:
        """Returns when all that the caller's stream was asked for is done."""

    def solving(self) -> AbstractContextManager[Any]:
        """A context in which a solver of `xp` that fails raises numpy.linalg.LinAlgError."""

    def eigh(self, c: Any, vectors: bool) -> tuple[Any, Any]:
        """Eigenvalues, ascending, and eigenvectors or None of symmetric matrices (batch, n, n), given by their lower
        triangles. Raises numpy.linalg.LinAlgError."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A zeroed array on the device."""

    def owns(self, array: Any) -> bool:
        """Whether an array lies on the device."""

    def address(self, array: Any) -> int:
        """Where its first element lies."""

    def write(self, array: Any, source: np.ndarray) -> None:
        """Copies an array of the same shape and dtype, of the host or of the device, into one of the device."""

    def read(self, array: Any) -> np.ndarray:
        """A copy on the host, after all that was launched before."""

    def record(self, launches: Sequence[Launch], arrays: Arrays, whole: bool) -> Callable[[], None]:
        """The launches as one function, over arrays by the names of their operands. whole: no signal comes between them."""


def slots_of(launch: Launch, hidden: int, address: Callable[[Any], int], arrays: Arrays, tables: Sequence[Any]) -> bytes:
    """The arguments of a launch, eight bytes each: addresses, int32, float64; then null for the hidden ones. tables: the
    device's copies of the launch's, in order. Raises ValueError for an address that kernels do not expect."""
    left = iter(tables)
    packed = []
    for name, value in launch.arguments.items():
        if isinstance(value, (Operand, Table)):
            place = address(next(left) if isinstance(value, Table) else arrays[value.name])
            if place % ALIGNED:
                raise ValueError(f"{launch.kernel.name}: {name}: expected an address that {ALIGNED} divides, got {place:#x}")
            packed.append(struct.pack("<Q", place))
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
        self.cupy = self.xp = cupy
        self.driver = driver
        self._functions: dict[tuple[Variant, int], tuple[Any, Binary]] = {}
        self._thread, self._threads = threading.local(), itertools.count(1)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.cupy = self.xp = self.driver = _Forked()

    @property
    def arch(self) -> int:
        """The architecture, 90 for sm_90."""
        return int(self.cupy.cuda.Device().compute_capability)

    def __str__(self) -> str:
        name = self.cupy.cuda.runtime.getDeviceProperties(self.cupy.cuda.Device().id)["name"].decode()
        return f"{name} (sm_{self.arch}), CuPy {self.cupy.__version__}"

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.cupy.zeros(shape, dtype)

    def owns(self, array: Any) -> bool:
        return isinstance(array, self.cupy.ndarray)

    def take(self, value: Any) -> Any:
        if not isinstance(value, self.cupy.ndarray):
            if not lies_on_gpu(value):
                return None
            value = self.cupy.from_dlpack(value)
        if value.device != self.cupy.cuda.Device():
            raise ValueError(f"it lies on {value.device}, while {self.cupy.cuda.Device()} is the current one")
        return value

    def number(self) -> int:
        return int(self.cupy.cuda.runtime.getDevice())

    def wait(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def stream(self) -> int:
        pointer = int(self.cupy.cuda.get_current_stream().ptr)
        if pointer != self.cupy.cuda.runtime.streamPerThread:
            return pointer
        # Each thread has one of its own. A thread's identity may come again while work of the last one is still going on.
        if not hasattr(self._thread, "number"):
            self._thread.number = next(self._threads)
        return -int(self._thread.number)

    def solving(self) -> AbstractContextManager[Any]:
        self._cusolver()
        import cupyx

        return cupyx.errstate(linalg="raise")  # type: ignore[no-any-return]

    def _cusolver(self) -> Any:
        """CuPy's module of that name, the library loaded."""
        try:
            from cupy_backends.cuda.libs import cusolver

            self.cupy.cuda.device.get_cusolver_handle()
        except ImportError as error:
            why = str(error).partition("\n")[0]
            raise ImportError(
                f"backend 'cuda': cuSOLVER cannot be loaded ({why}); it comes with CUDA 13, or with cupy-cuda13x[ctk]"
            ) from None
        return cusolver

    def eigh(self, c: Any, vectors: bool) -> tuple[Any, Any]:
        cusolver, library = self._cusolver(), load_library()
        if library is not None:
            return eigh_batched(self.cupy, cusolver, library, c, vectors)
        with self.solving():
            solved = [self.cupy.linalg.eigh(matrix) for matrix in c]
        w, v = (self.cupy.stack(parts) for parts in zip(*solved))
        return w, v if vectors else None

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def write(self, array: Any, source: np.ndarray) -> None:
        if self.owns(source):
            array[...] = source
        else:
            array.set(np.ascontiguousarray(source))

    def read(self, array: Any) -> np.ndarray:
        return self.cupy.asnumpy(array)  # type: ignore[no-any-return]

    def loaded(self, launch: Launch) -> tuple[Any, Binary]:
        """The function of a launch on the current device, and its binary."""
        key = variant_of(launch), self.number()
        found = self._functions.get(key)
        if found is None:
            binary = binary_of(key[0], self.arch)
            module = self.cupy.cuda.function.Module()
            module.load(binary.code)
            function = module.get_function(binary.entry)
            if binary.shared > _STATIC:
                self._allow(function, binary, key[1])
            # Of two threads one wins: what the other loaded is unloaded, and must have been given to nobody.
            found = self._functions.setdefault(key, (function, binary))
        return found

    def _allow(self, function: Any, binary: Binary, number: int) -> None:
        runtime = self.cupy.cuda.runtime
        most = runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, number)
        if binary.shared > most:
            raise RuntimeError(
                f"backend 'cuda': {binary.entry} takes {binary.shared} bytes of shared memory in a block, and this GPU has "
                f"{most}"
            )
        attribute = self.driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self.driver.funcSetAttribute(function.ptr, attribute, binary.shared)

    def record(self, launches: Sequence[Launch], arrays: Arrays, whole: bool) -> Callable[[], None]:
        recording = _Recording(self, launches, arrays)
        if any(recording.tables):
            self.wait()  # others may run it on another stream than the one that its tables came by
        if whole:
            recording.capture()
        return recording


class _Forked:
    """What a process has of CUDA after a fork."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(
            "backend 'cuda': this process was forked from one that uses the GPU, and CUDA does not outlive a fork: start it "
            "anew, by multiprocessing's method 'spawn'"
        )


class _Recording:
    """Launches with their arguments. The arrays that these point to are the caller's to keep until they have run."""

    def __init__(self, device: CupyDevice, launches: Sequence[Launch], arrays: Arrays) -> None:
        self.device = device
        self.graph: Any = None
        self.arguments, self.tables, self.calls = [], [], []
        for launch in launches:
            function, binary = device.loaded(launch)
            given = [v for v in launch.arguments.values() if isinstance(v, Table)]
            tables = [device.cupy.asarray(table_of(v, device.address, arrays)) for v in given]
            arguments = Arguments(slots_of(launch, binary.hidden, device.address, arrays, tables))
            self.tables.append(tables)
            self.arguments.append(arguments)
            self.calls.append((function.ptr, *launch.grid, binary.threads, 1, 1, binary.shared, arguments.address))

    def capture(self) -> None:
        """Makes one graph of all launches."""
        own = self.device.cupy.cuda.Stream(non_blocking=True)
        with own:
            own.begin_capture()
            try:
                self()
            finally:
                graph = own.end_capture()
        self.graph = graph

    def __call__(self) -> None:
        stream = self.device.cupy.cuda.get_current_stream()
        if self.graph is not None:
            self.graph.launch(stream=stream)
            return
        launch = self.device.driver.launchKernel
        for function, x, y, z, threads, one, also, shared, arguments in self.calls:
            launch(function, x, y, z, threads, one, also, shared, stream.ptr, arguments, 0)
