"""SciPy's LAPACK wrappers, a call for each matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import lapack

from . import Peer


class Contestant(Peer):
    """Limited by OPENBLAS_NUM_THREADS, which is read when SciPy is imported."""

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
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
