"""The two halves check each other: without hidden layers, what training finds is what PCA knows."""

from __future__ import annotations

import numpy as np
import pytest

import latentcore as lc

ROWS, FEATURES, CODE, EPOCHS = 2000, 20, 4, 300


def schedule(epoch: int) -> float:
    return 1e-2 * 0.5 ** (6 * epoch / EPOCHS)


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    """Four directions of large variance, equal noise in all others."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))[0]
    spread = np.r_[3, 2.5, 2, 1.5, np.full(FEATURES - CODE, 0.5)]
    return (rng.standard_normal((ROWS, FEATURES)) * spread @ axes + rng.uniform(-1, 1, FEATURES)).astype(np.float32)


def squares(A: np.ndarray, B: np.ndarray) -> float:
    return float(np.square(A.astype(np.float64) - B).sum(1).mean())


def test_a_linear_autoencoder_reaches_the_error_of_pca(X: np.ndarray) -> None:
    """Baldi & Hornik 1989: the best linear code spans the principal components."""
    pca = lc.PCA(CODE).fit(X)
    best = squares(pca.inverse_transform(pca.transform(X)), X)
    model = lc.Autoencoder(CODE, (), likelihood="gaussian", random_state=0)
    lc.train(model, X, epochs=EPOCHS // 3, batch_size=100, learning_rate=schedule)
    assert 1 - 1e-6 < squares(model.reconstruct(X), X) / best < 1.01
    decoder = np.linalg.qr(model.parameters()["decoder.0.weight"].astype(np.float64))[0]
    cosines = np.linalg.svd(pca.components_ @ decoder, compute_uv=False)
    assert cosines.min() > 0.99


def test_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca(X: np.ndarray) -> None:
    """Lucas et al. 2019: the bound of a linear VAE is tight at the maximum of the likelihood of probabilistic PCA."""
    pca = lc.PCA(CODE).fit(X)
    model = lc.VAE(CODE, (), likelihood="gaussian", variance="learned", random_state=0)
    lc.train(model, X, epochs=EPOCHS, batch_size=100, learning_rate=schedule)
    # All rows take the same codes: the mean errs by that of these few.
    assert model.score_samples(X, n_samples=4000).mean() == pytest.approx(pca.score(X), rel=0.01)
    assert model.log_likelihood(X[:200], n_samples=500).mean() == pytest.approx(pca.score(X[:200]), rel=0.01)
    (log_variance,) = model.parameters()["decoder.log_variance"]
    assert np.exp(log_variance) == pytest.approx(pca.noise_variance_, rel=0.02)
