"""Backends bind a plan to a capacity of rows and run it: ``reference`` (NumPy, float64), ``cpu`` (C++), ``cuda`` (a GPU)."""

from __future__ import annotations

from typing import Any

from .base import Backend, Bound, NonFiniteError, lies_on_gpu
from .batched import Batched
from .cpu import CpuBackend, get_num_threads, set_num_threads
from .reference import ReferenceBackend
from .runner import Runner

_BACKENDS: dict[str, Backend] = {"cpu": CpuBackend(), "reference": ReferenceBackend()}
_PRECISIONS = {"cuda": "ieee", "cuda:tf32": "tf32"}  # of the products of float32 matrices; looked for at their first use


def get_backend(name: Any, *arrays: Any) -> Backend:
    """The backend of that name; "auto" follows the arrays of a call: "cuda" if one lies on a GPU, else "cpu". Raises
    ValueError for any other name, ImportError or RuntimeError, saying what is missing, where there is no GPU to work on."""
    if name == "auto":
        name = "cuda" if any(map(lies_on_gpu, arrays)) else "cpu"
    if not isinstance(name, str) or (name not in _BACKENDS and name not in _PRECISIONS):
        known = sorted({**_BACKENDS, **_PRECISIONS})
        raise ValueError(f"backend: expected one of auto, {', '.join(known)}, got {name!r}")
    if name not in _BACKENDS:
        from .device import CupyDevice

        device = CupyDevice()  # says what is missing before anything else can
        from .cuda import CudaBackend

        _BACKENDS.setdefault(name, CudaBackend(device, _PRECISIONS[name]))
    return _BACKENDS[name]


__all__ = [
    "Backend",
    "Batched",
    "Bound",
    "NonFiniteError",
    "Runner",
    "get_backend",
    "get_num_threads",
    "lies_on_gpu",
    "set_num_threads",
]
