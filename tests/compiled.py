"""What the tests of compiled functions share: small models, what their functions take, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import latentcore as lc

FEATURES, LATENT, BATCH = 21, 5, 16
X = np.random.default_rng(0).random((BATCH, FEATURES))
Z = np.random.default_rng(1).standard_normal((BATCH, LATENT))

MODELS: dict[str, Callable[[str], Any]] = {
    "vae": lambda dtype: lc.VAE(LATENT, (33,), dtype=dtype, epochs=1, random_state=0),
    "gaussian": lambda dtype: lc.VAE(
        LATENT, (33, 18), activation="silu", likelihood="gaussian", variance="learned", dtype=dtype, random_state=0
    ),
    "no hidden layer": lambda dtype: lc.VAE(LATENT, (), dtype=dtype, epochs=1, random_state=0),
    "autoencoder": lambda dtype: lc.Autoencoder(LATENT, (33,), dtype=dtype, epochs=1, random_state=0),
}  # fmt: skip

# A function -> what it takes, and the method that it is.
FUNCTIONS: dict[str, tuple[np.ndarray, Callable[[Any, Any], Any]]] = {
    "encode": (X, lambda model, x: model.transform(x)),
    "posterior": (X, lambda model, x: model.encode(x)),
    "decode": (Z, lambda model, z: model.decode(z)),
    "reconstruct": (X, lambda model, x: model.reconstruct(x)),
    "score_samples": (X, lambda model, x: model.score_samples(x)),
}


def fitted(name: str = "vae", dtype: str = "float32") -> Any:
    return MODELS[name](dtype).fit(X)


def as_tuple(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same(got: Any, want: Any) -> None:
    assert isinstance(got, tuple) == isinstance(want, tuple)
    for a, b in zip(as_tuple(got), as_tuple(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
