"""The Autoencoder: its public face, and a linear one against principal components."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from models import draw
from numerics import assert_same_bits

import latentcore as lc
from latentcore.ops.linear import ACTIVATIONS

FEATURES = 13


def fresh(hidden: tuple[int, ...] = (33,), **options: Any) -> Any:
    return lc.Autoencoder(5, hidden, random_state=0, **options).initialize(FEATURES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("hidden", [(), (1,), (7,), (33, 7), (7, 1, 33)], ids=str)
def test_shapes_and_dtypes(hidden: tuple[int, ...], likelihood: str, dtype: str) -> None:
    model = fresh(hidden, likelihood=likelihood, dtype=dtype)
    X = draw(9, FEATURES)
    z = model.encode(X)
    for name, array, shape in (
        ("encode", z, (9, 5)),
        ("transform", model.transform(X), (9, 5)),
        ("decode", model.decode(z), (9, FEATURES)),
        ("inverse_transform", model.inverse_transform(z), (9, FEATURES)),
        ("reconstruct", model.reconstruct(X), (9, FEATURES)),
        ("interpolate", lc.interpolate(model, X[0], X[1], method="linear"), (9, FEATURES)),
    ):
        assert (name, array.shape, array.dtype) == (name, shape, np.dtype(dtype))
    assert_same_bits(model.transform(X), z)
    assert_same_bits(model.decode(z), model.reconstruct(X))
    assert_same_bits(model.inverse_transform(z), model.reconstruct(X))
    scores = model.score_samples(X)
    assert (scores.shape, scores.dtype) == ((9,), np.float64)
    loss, gradients = model.loss_and_gradients(X)
    assert loss == pytest.approx(-scores.mean(), rel=1e-12)
    parameters = model.parameters()
    assert parameters["latent.weight"].shape == (5, hidden[-1] if hidden else FEATURES)
    assert {n: (g.shape, g.dtype) for n, g in gradients.items()} == {n: (a.shape, a.dtype) for n, a in parameters.items()}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_a_chain_of_layers(activation: str) -> None:
    """encode, decode and the loss, written out in NumPy."""
    functions = {
        "identity": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "leaky_relu": lambda x: np.maximum(x, 0.01 * x),
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
        "silu": lambda x: x / (1 + np.exp(-x)),
    }
    X = draw(9, FEATURES)
    for likelihood in ("bernoulli", "gaussian"):
        model = fresh((33, 7), activation=activation, likelihood=likelihood, variance=0.3, dtype="float64")
        p = model.parameters()

        def chain(x: np.ndarray, layers: list[str], p: dict[str, np.ndarray] = p) -> np.ndarray:
            for i, name in enumerate(layers):
                x = x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
                x = functions[activation](x) if i < len(layers) - 1 else x
            return x

        z = chain(X, ["encoder.0", "encoder.1", "latent"])
        out = chain(z, ["decoder.0", "decoder.1", "decoder.2"])
        mean = 1 / (1 + np.exp(-out)) if likelihood == "bernoulli" else out
        if likelihood == "bernoulli":
            scores = (X * np.log(mean) + (1 - X) * np.log1p(-mean)).sum(1)
        else:
            scores = -0.5 * ((X - mean) ** 2 / 0.3 + np.log(2 * np.pi * 0.3)).sum(1)
        assert model.encode(X) == pytest.approx(z, rel=1e-12, abs=1e-14)
        assert model.decode(z) == pytest.approx(mean, rel=1e-12, abs=1e-14)
        assert model.score_samples(X) == pytest.approx(scores, rel=1e-12)


@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_a_row_does_not_depend_on_its_company(zeros: float) -> None:
    model = fresh((33, 7), likelihood="gaussian", variance="learned")
    X = draw(2229, FEATURES, zeros)
    for function in (model.encode, model.reconstruct, model.score_samples, lambda X: model.decode(X[:, :5])):
        whole = function(X)
        for n in (1, 3, 16, 129):
            assert_same_bits(function(X[:n]), whole[:n])
            assert_same_bits(function(X[-n:]), whole[-n:])


def test_there_is_no_prior_to_sample() -> None:
    model = fresh()
    with pytest.raises(TypeError, match=r"model: expected a VAE.* got Autoencoder"):
        lc.sample(model, 3)
    assert not hasattr(model, "log_likelihood")


def test_interpolation_passes_through_its_points() -> None:
    model, X = fresh(), draw(4, FEATURES)
    for method in ("linear", "slerp"):
        path = lc.interpolate(model, X, steps=7, method=method)
        assert_same_bits(path[::6], model.reconstruct(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_linear_one_reaches_principal_components(dtype: str) -> None:
    """Baldi and Hornik 1989: the best linear code spans them, and its error is the variance that they leave."""
    rng = np.random.default_rng(0)
    spectrum = np.array([3.0, 2.5, 2.0, 1.5, 1.2, *[0.2] * 8])
    X = rng.normal(size=(400, FEATURES)) * spectrum @ np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    X = (X + rng.normal(size=FEATURES)).astype(np.float32)
    centred = X - X.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    best = (values[5:] ** 2).sum() / len(X)
    model = lc.Autoencoder(5, (), dtype=dtype, random_state=0)
    history = lc.train(model, X, epochs=2000, batch_size=100, learning_rate=lambda epoch: 1e-2 * 0.998**epoch)
    error = np.square(model.reconstruct(X) - X).sum(1).mean()
    print(f"squared error a row: {error:.6f}, of principal components {best:.6f}")
    assert best * (1 - 1e-5) < error < best * 1.0005
    assert history["loss"][-1] == pytest.approx(0.5 * error + FEATURES / 2 * np.log(2 * np.pi), rel=1e-3)
    span = np.linalg.qr(model.parameters()["decoder.0.weight"])[0]
    angles = np.linalg.svd(axes[:5] @ span)[1]
    assert angles.min() > 0.999


def test_better_codes_with_more_of_them() -> None:
    X, losses = draw(200, FEATURES, 0.5), []
    for latent_dim in (1, 4, 13):
        model = lc.Autoencoder(latent_dim, (64,), likelihood="bernoulli", random_state=0)
        losses.append(lc.train(model, X, epochs=60, batch_size=50, learning_rate=3e-3)["loss"][-1])
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.5
