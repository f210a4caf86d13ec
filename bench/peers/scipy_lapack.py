"""SciPy: its functions for a single matrix, its LAPACK wrappers, a call each, for the matrices of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from . import Peer


class Contestant(Peer):
    """Limited by OPENBLAS_NUM_THREADS, which is read when SciPy is imported."""

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        if len(a) == 1:
            return _one(task, a[0])
        single = a.dtype == np.float32
        svd = lapack.sgesdd if single else lapack.dgesdd
        evd, evr = (lapack.ssyevd, lapack.ssyevr) if single else (lapack.dsyevd, lapack.dsyevr)

        def all_svd() -> tuple[np.ndarray, ...]:
            found = [svd(one, full_matrices=0) for one in a]
            return tuple(np.stack([one[i] for one in found]) for i in range(3))

        def all_eigh(driver: Callable[..., Any] = evd if a.shape[-1] <= 32 else evr) -> tuple[np.ndarray, ...]:
            found = [driver(one) for one in a]
            return tuple(np.stack([one[i] for one in found]) for i in range(2))

        return all_svd if task == "svd" else all_eigh


def _one(task: str, a: np.ndarray) -> Callable[[], Any]:
    if task == "svd":
        return lambda: tuple(f[None] for f in linalg.svd(a, full_matrices=False, check_finite=False))
    return lambda: tuple(f[None] for f in linalg.eigh(a, check_finite=False))
