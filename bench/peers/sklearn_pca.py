"""scikit-learn's PCA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from . import Peer


class Contestant(Peer):
    """Limited by OPENBLAS_NUM_THREADS and OMP_NUM_THREADS, which are read when its libraries are imported."""

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        def call() -> tuple[np.ndarray, np.ndarray]:
            model = PCA(k, svd_solver="covariance_eigh").fit(x)
            return model.explained_variance_, model.components_

        return call

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        model, row = PCA(k, svd_solver="covariance_eigh").fit(x), x[:1]
        return lambda: model.transform(row)

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        def call() -> tuple[np.ndarray, np.ndarray]:
            models = [PCA(svd_solver="covariance_eigh").fit(group) for group in x]
            return np.stack([m.explained_variance_ for m in models]), np.stack([m.components_ for m in models])

        return call
