"""A stand-in for CuPy and the driver beneath it: it reads the arguments of a launch as a GPU would, and runs nothing."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from latentcore.backends.binaries import Binary, Variant

_FORMATS = {"i32": "<i", "fp64": "<d"}


def binary(variant: Variant, arch: int, shared: int = 0) -> Binary:
    """What stands in for a compiled kernel: as its code, the formats of its parameters. Triton leaves out absent buffers and
    adds two parameters of its own; Numba does neither."""
    numba = variant.kernel.language == "numba"
    formats = [_FORMATS.get(kind, "<Q") for _, kind in variant.signature if numba or kind != "absent"]
    hidden = 0 if numba else 2
    code = json.dumps([variant.kernel.name, arch, *formats, *["<Q"] * hidden])
    return Binary(variant.kernel.name, code.encode(), variant.threads, shared, hidden)


class Array(np.ndarray):
    """An array of the device, which is the host's. It lies on the current one, unless it is told otherwise."""

    elsewhere: Any = None

    @property
    def device(self) -> Any:
        return self.elsewhere or sys.modules["cupy"].cuda.Device()

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, source: np.ndarray) -> None:
        assert type(source) is np.ndarray
        assert (source.shape, source.dtype) == (self.shape, self.dtype)
        self[...] = source


def aligned(*shape: int, dtype: str = "float32", off: int = 0) -> Array:
    """An array of zeros, so many bytes off a line of 64."""
    raw = np.zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize + 128, np.uint8)
    begin = -raw.ctypes.data % 64 + off
    return raw[begin : begin + raw.size - 128].view(dtype).reshape(shape).view(Array)


class Stream:
    """A stream, and the graph that is being captured on it."""

    def __init__(self, gpu: Gpu, ptr: int) -> None:
        self.gpu, self.ptr, self.captured, self.waited = gpu, ptr, None, 0

    def __enter__(self) -> None:
        self.gpu.streams.append(self)

    def __exit__(self, *error: object) -> None:
        self.gpu.streams.pop()

    def begin_capture(self) -> None:
        self.captured: list[tuple[Any, ...]] | None = []

    def end_capture(self) -> SimpleNamespace:
        held, self.captured = self.captured, None
        return SimpleNamespace(launch=lambda stream: self.gpu.launched.extend((*each[:-1], stream.ptr) for each in held))

    def synchronize(self) -> None:
        self.waited += 1


class Gpu:
    """launched: (entry, arch, grid, block, shared memory, the values of its parameters, stream) of every launch, and of
    every replay of a graph."""

    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    most_shared = 2**17

    def __init__(self, arch: str = "90") -> None:
        self.launched: list[tuple[Any, ...]] = []
        self.allowed: dict[str, int] = {}  # bytes of shared memory, by the name of the function
        self.loads = 0
        self.loading: Callable[[], Any] = lambda: None  # what happens meanwhile
        self.streams = [Stream(self, 7)]
        self.current = SimpleNamespace(id=0, compute_capability=arch)
        self._functions: list[list[Any]] = []

    def launchKernel(self, function, x, y, z, bx, by, bz, shared, stream, parameters, extra) -> None:
        entry, arch, *formats = self._functions[function]
        places = (ctypes.c_uint64 * len(formats)).from_address(parameters)
        values = [struct.unpack(f, ctypes.string_at(p, struct.calcsize(f)))[0] for f, p in zip(formats, places)]
        assert stream == self.streams[-1].ptr
        assert not extra
        launch = (entry, arch, (x, y, z), (bx, by, bz), shared, values, stream)
        captured = self.streams[-1].captured
        (self.launched if captured is None else captured).append(launch)

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:
        assert attribute == self.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self.allowed[self._functions[function][0]] = value

    def _module(self) -> SimpleNamespace:
        loaded: list[Any] = []

        def get_function(entry: str) -> SimpleNamespace:
            assert entry == loaded[0]
            self._functions.append(loaded)
            return SimpleNamespace(ptr=len(self._functions) - 1)

        def load(code: bytes) -> None:
            loaded.extend(json.loads(code))
            self.loads += 1
            self.loading()

        return SimpleNamespace(load=load, get_function=get_function)

    def install(self, monkeypatch: Any) -> None:
        """Takes the place of CuPy."""
        cuda = SimpleNamespace(
            is_available=lambda: True,
            runtime=SimpleNamespace(
                streamPerThread=2,
                getDevice=lambda: self.current.id,
                cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
                deviceGetAttribute=lambda attribute, number: {97: self.most_shared}[attribute],
            ),
            Device=lambda: self.current,
            Stream=lambda non_blocking: Stream(self, 1000 + non_blocking),
            get_current_stream=lambda: self.streams[-1],
            function=SimpleNamespace(Module=self._module),
        )
        cupy = SimpleNamespace(
            cuda=cuda,
            ndarray=Array,
            zeros=lambda shape, dtype: aligned(*shape, dtype=dtype),
            asarray=lambda array: array.view(Array),
            asnumpy=lambda array: np.array(array),
        )
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        for name in ("cupy_backends", "cupy_backends.cuda"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api", SimpleNamespace(driver=self))
