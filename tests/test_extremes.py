"""Nothing is NaN: huge logits and log-variances, data without spread, one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import draw

import latentcore as lc

HUGE = 1e4
LIKELIHOODS: dict[str, dict[str, Any]] = {
    "bernoulli": {"likelihood": "bernoulli"},
    "gaussian": {"likelihood": "gaussian", "variance": 1e-3},
    "learned": {"likelihood": "gaussian", "variance": "learned"},
}


def check_finite(model: Any, X: np.ndarray) -> dict[str, np.ndarray]:
    """Everything that the model computes from X; returns the gradients."""
    codes = list(model.encode(X)) if isinstance(model, lc.VAE) else [model.encode(X)]
    found = [*codes, model.reconstruct(X), model.decode(codes[0]), model.score_samples(X)]
    if isinstance(model, lc.VAE):
        found += [model.log_likelihood(X, 7), lc.sample(model, 5, random_state=0)]
    loss, gradients = model.loss_and_gradients(X)
    assert np.isfinite(loss)
    assert all(np.isfinite(a).all() for a in [*found, *gradients.values()])
    return gradients


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_huge_logits_and_log_variances(likelihood: str, samples: int, dtype: str, backend: str) -> None:
    """Of either sign and of both: the log-variance is clamped to [-30, 20], and has no gradient outside."""
    options = {"importance_samples": samples, "dtype": dtype, "backend": backend, **LIKELIHOODS[likelihood]}
    signs = np.array([1, -1, 1, -1, 1])
    X = np.concatenate([draw(5, 9), np.zeros((1, 9)), np.ones((1, 9))]).astype(np.float32)
    for out, spread in ((signs[0], 0), (signs[1], 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        model = lc.VAE(3, (7,), random_state=0, **options).initialize(9)
        bias = np.resize(signs, 9) * HUGE * out
        logvar = np.array([0.5, 1, -1]) * HUGE * spread
        model.set_parameters({"decoder.1.bias": bias, "latent.bias": np.concatenate([np.zeros(3), logvar])})
        gradients = check_finite(model, X)
        clamped = model.encode(X)[1]
        assert ((clamped >= -30) & (clamped <= 20)).all()
        if spread:
            assert set(np.unique(clamped)) == {-30, 20}
            assert not gradients["latent.weight"][3:].any()
        assert any(g.any() for g in gradients.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gain", [30.0, 1e3])
@pytest.mark.parametrize("activation", ["relu", "gelu", "softplus", "sigmoid"])
def test_huge_weights(activation: str, gain: float, dtype: str) -> None:
    """Every layer's sums are large, and the codes with them."""
    for kind in (lc.VAE, lc.Autoencoder):
        model = kind(3, (17, 9), random_state=0, activation=activation, likelihood="bernoulli", dtype=dtype)
        parameters = model.initialize(9).parameters()
        model.set_parameters({name: gain * a for name, a in parameters.items()})
        check_finite(model, draw(20, 9, 0.5))


DATA: dict[str, np.ndarray] = {
    "constant columns": np.tile(np.linspace(0, 1, 9), (20, 1)),
    "some constant columns": np.where(np.arange(9) % 2, 0.5, draw(20, 9)),
    "zeros": np.zeros((20, 9)),
    "ones": np.ones((20, 9)),
    "one row": draw(1, 9),
    "one row of zeros": np.zeros((1, 9)),
    "one feature": draw(20, 1),
    "one number": np.ones((1, 1)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("data", DATA)
def test_data_without_spread(data: str, likelihood: str, dtype: str) -> None:
    """Training goes on and gets better."""
    X = DATA[data]
    for kind in (lc.VAE, lc.Autoencoder):
        model = kind(2, (7,), random_state=0, dtype=dtype, **LIKELIHOODS[likelihood])
        history = lc.train(model, X, epochs=60, batch_size=8, learning_rate=1e-2, validation=X)
        assert all(np.isfinite(a).all() for a in history.values())
        assert history["val_recon"][-1] < history["val_recon"][0]
        check_finite(model, X)


def test_dead_units_and_exact_zeros() -> None:
    """A network of zeros has a loss that is known, and gradients that are."""
    X = draw(20, 9)
    model = lc.VAE(3, (7,), dtype="float64").initialize(9)
    model.set_parameters({name: np.zeros_like(a) for name, a in model.parameters().items()})
    loss, gradients = model.loss_and_gradients(X)
    assert loss == pytest.approx(9 * np.log(2))
    assert gradients.pop("decoder.1.bias") == pytest.approx(0.5 - X.mean(0), abs=1e-7)
    assert not any(g.any() for g in gradients.values())
