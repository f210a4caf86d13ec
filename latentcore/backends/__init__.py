"""Backends bind a plan to a capacity of rows and run it: ``reference`` (NumPy, float64) and ``cpu`` (C++)."""

from __future__ import annotations

from typing import Any

from .base import Backend, Bound, NonFiniteError
from .batched import Batched
from .cpu import CpuBackend, get_num_threads, set_num_threads
from .reference import ReferenceBackend
from .runner import Runner

_BACKENDS: dict[str, Backend] = {"cpu": CpuBackend(), "reference": ReferenceBackend()}


def get_backend(name: Any) -> Backend:
    """The backend of that name; "auto" is the CPU, where NumPy arrays live. Raises ValueError for any other."""
    if name == "auto":
        name = "cpu"
    if not isinstance(name, str) or name not in _BACKENDS:
        raise ValueError(f"backend: expected one of auto, {', '.join(_BACKENDS)}, got {name!r}")
    return _BACKENDS[name]


__all__ = ["Backend", "Batched", "Bound", "NonFiniteError", "Runner", "get_backend", "get_num_threads", "set_num_threads"]
