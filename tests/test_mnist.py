"""Real data: PyTorch's example network, with its settings, reaches its test loss; principal components are those known."""

from __future__ import annotations

import os

import numpy as np
import pytest

import latentcore as lc
from latentcore.datasets import load_mnist

DATA = os.environ.get("LATENTCORE_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="LATENTCORE_DATA names no folder with MNIST's files")


def squares(A: np.ndarray, B: np.ndarray) -> float:
    return float(np.square(A.astype(np.float64) - B).sum(1).mean())


def test_pytorchs_example() -> None:
    """PyTorch's own runs end their ten epochs at 105.2 to 105.6 nats, and their first at 126.9."""
    assert DATA is not None
    X, _ = load_mnist(DATA, "train")
    X_test, _ = load_mnist(DATA, "test")
    vae = lc.VAE(20, (400,), random_state=0)
    history = lc.train(vae, X, epochs=10, batch_size=128, learning_rate=1e-3, validation=X_test)
    print("val_loss:", *(f"{loss:.2f}" for loss in history["val_loss"]))
    assert history["val_loss"][0] <= 128.5
    assert history["val_loss"][-1] <= 105.9
    assert history["active_units"][-1] >= 15

    # As many principal components leave 19 of 52.7; a sample lies as far from a digit as a digit from the next.
    assert squares(vae.reconstruct(X_test), X_test) < 12
    samples, near = lc.sample(vae, 64, random_state=0), X_test[:2000]
    nearest = np.array([np.square(near - sample).sum(1).min() for sample in samples])
    assert nearest.mean() < 40
    path = lc.interpolate(vae, X_test[0], X_test[1], steps=9)
    steps = np.square(np.diff(path, axis=0)).sum(1)
    assert steps.max() < squares(path[:1], path[-1:]) / 2
    bound = vae.log_likelihood(X_test[:200], n_samples=100).mean()
    assert vae.score_samples(X_test[:200], n_samples=20).mean() + 2 < bound < -85


def test_principal_components() -> None:
    assert DATA is not None
    X, T = (load_mnist(DATA, part)[0] for part in ("train", "test"))
    for solver in ("full", "covariance_eigh"):
        model = lc.PCA(0.95, svd_solver=solver).fit(X)
        total = model.explained_variance_.sum() / model.explained_variance_ratio_.sum()
        assert f"{total:.5f}" == "52.72591"
        assert [f"{ratio:.6f}" for ratio in model.explained_variance_ratio_[:5]] == [
            "0.097047", "0.070959", "0.061691", "0.053894", "0.048688"
        ]  # fmt: skip
        assert model.n_components_ == 154
        for k, error in ((2, "43.6449"), (10, "26.7139"), (50, "9.0043"), (154, "2.5888")):
            z = model.transform(T)
            z[:, k:] = 0
            assert f"{squares(model.inverse_transform(z), T):.4f}" == error
    random = lc.PCA(50, svd_solver="randomized", random_state=0).fit(X)
    np.testing.assert_allclose(random.explained_variance_ratio_, model.explained_variance_ratio_[:50], rtol=5e-6)
