"""Models on the GPU backend, and the arrays that they are tested with: on a GPU its own, else such as behave like them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import numpy as np

import latentcore as lc

ROWS, FEATURES = 12, 6
X = models.draw(ROWS, FEATURES)
Z = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)


class Place:
    """The device, and what the tests do on it."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.kind: type[Any] = type(device.zeros((1,), "float32"))

    def put(self, array: np.ndarray) -> Any:
        return self.device.xp.asarray(array)

    def read(self, array: Any) -> np.ndarray:
        """An array of the device or of NumPy's as NumPy's."""
        return self.device.read(array) if type(array) is self.kind else array


class Foreign:
    """Another library's array on the device, which speaks DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


def vae(**parameters: Any) -> lc.VAE:
    return lc.VAE(**{"latent_dim": 2, "hidden": (5,), "epochs": 1, "batch_size": 8, "random_state": 0, **parameters})


def autoencoder(**parameters: Any) -> lc.Autoencoder:
    return lc.Autoencoder(2, (5,), epochs=1, batch_size=8, random_state=0, **parameters)


def near(got: Any, want: Any, tolerance: float = 2e-4) -> None:
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


FITTED: dict[str, Callable[[], Any]] = {
    "VAE": lambda: vae().fit(X),
    "learned variance": lambda: vae(likelihood="gaussian", variance="learned", dtype="float64").fit(X),
    "Autoencoder": lambda: autoencoder().fit(X),
    "MLP": lambda: lc.MLP((6, 5, 3), ("gelu", "sigmoid"), random_state=0).initialize(),
    "PCA": lambda: lc.PCA(2, whiten=True).fit(X),
    "IncrementalPCA": lambda: lc.IncrementalPCA(2).fit(X),
    "rows to come": lambda: lc.IncrementalPCA(2).partial_fit(X[:1]),
    "BatchedPCA": lambda: lc.BatchedPCA(2).fit([X[:7], X[7:]]),
}


def described(model: Any) -> dict[str, Any]:
    """All that a model holds beside its backend."""
    if isinstance(model, lc.BatchedPCA):
        arrays, rest = {k: a for k, a in vars(model).items() if isinstance(a, np.ndarray)}, {}
    elif isinstance(model, lc.IncrementalPCA) and model._stale:
        arrays, rest = dict(zip("cmg", map(np.asarray, model._moments.get()))), {"rows": model.n_samples_seen_}
    else:
        rest, arrays = model._describe()
    return {**rest, **{name: models.bits(array) for name, array in arrays.items()}}
