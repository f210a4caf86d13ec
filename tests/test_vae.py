"""The VAE's public face: what its functions give, row by row and bit by bit, for any shape of network and input."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from models import bits, draw
from numerics import assert_same_bits

import latentcore as lc
from latentcore.ops.linear import ACTIVATIONS
from latentcore.ops.random import STREAMS, philox_normal

FEATURES = 13


def fresh(
    hidden: tuple[int, ...] = (33,), latent_dim: int = 5, features: int = FEATURES, gain: float = 1.0, **options: Any
) -> Any:
    """A VAE with the weights it starts from, times `gain`."""
    model = lc.VAE(latent_dim, hidden, random_state=0, **options).initialize(features)
    return model.set_parameters({name: gain * a for name, a in model.parameters().items()})


def functions(model: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Every function of rows, of data or (decode) of codes."""
    latent = model.latent_dim
    return {
        "mu": lambda X: model.encode(X)[0],
        "logvar": lambda X: model.encode(X)[1],
        "transform": model.transform,
        "decode": lambda X: model.decode(8 * X[:, :latent] - 4),
        "inverse_transform": lambda X: model.inverse_transform(8 * X[:, :latent] - 4),
        "reconstruct": model.reconstruct,
        "score_samples": lambda X: model.score_samples(X, n_samples=2),
        "log_likelihood": lambda X: model.log_likelihood(X, n_samples=3),
    }


# ---- shapes, names, weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("hidden", [(), (1,), (7,), (33, 7), (7, 1, 33)], ids=str)
def test_shapes_and_dtypes(hidden: tuple[int, ...], likelihood: str, dtype: str) -> None:
    model = fresh(hidden, dtype=dtype, likelihood=likelihood)
    X = draw(9, FEATURES)
    z, logvar = model.encode(X)
    for name, array, shape in (
        ("mu", z, (9, 5)),
        ("logvar", logvar, (9, 5)),
        ("transform", model.transform(X), (9, 5)),
        ("decode", model.decode(z), (9, FEATURES)),
        ("inverse_transform", model.inverse_transform(z), (9, FEATURES)),
        ("reconstruct", model.reconstruct(X), (9, FEATURES)),
        ("sample", lc.sample(model, 9, random_state=0), (9, FEATURES)),
        ("interpolate", lc.interpolate(model, X[0], X[1]), (9, FEATURES)),
    ):
        assert (name, array.shape, array.dtype) == (name, shape, np.dtype(dtype))
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if shape[1] == FEATURES and likelihood == "bernoulli":
            assert ((array > 0) & (array < 1)).all()
    for scores in (model.score_samples(X), model.score_samples(X, n_samples=3), model.log_likelihood(X, n_samples=4)):
        assert (scores.shape, scores.dtype) == ((9,), np.float64)
    assert model.score(X) == model.score_samples(X).mean()
    assert lc.sample(model, 0, random_state=0).shape == (0, FEATURES)
    loss, gradients = model.loss_and_gradients(X)
    assert isinstance(loss, float)
    shapes = {name: (a.shape, a.dtype) for name, a in model.parameters().items()}
    assert {name: (a.shape, a.dtype) for name, a in gradients.items()} == shapes


def test_parameters_are_named_and_shaped_plainly() -> None:
    model = fresh((33, 7), likelihood="gaussian", variance="learned")
    parameters = model.parameters()
    assert {name: a.shape for name, a in parameters.items()} == {
        "encoder.0.weight": (33, 13),
        "encoder.0.bias": (33,),
        "encoder.1.weight": (7, 33),
        "encoder.1.bias": (7,),
        "latent.weight": (10, 7),
        "latent.bias": (10,),
        "decoder.0.weight": (7, 5),
        "decoder.0.bias": (7,),
        "decoder.1.weight": (33, 7),
        "decoder.1.bias": (33,),
        "decoder.2.weight": (13, 33),
        "decoder.2.bias": (13,),
        "decoder.log_variance": (1,),
    }
    X = draw(3, FEATURES)
    before = model.reconstruct(X)
    for a in parameters.values():
        a += 1  # copies
    assert_same_bits(model.reconstruct(X), before)
    model.set_parameters({"decoder.2.bias": parameters["decoder.2.bias"]})
    assert model.reconstruct(X) == pytest.approx(before + 1, rel=1e-5)
    assert_same_bits(model.parameters()["decoder.2.bias"], parameters["decoder.2.bias"])
    mu, logvar = model.encode(X)
    model.set_parameters({"latent.bias": model.parameters()["latent.bias"] + np.repeat([0, 1], 5)})  # mu rows first
    assert_same_bits(model.encode(X)[0], mu)
    assert model.encode(X)[1] == pytest.approx(logvar + 1, abs=1e-6)


def test_weights_start_as_in_pytorch() -> None:
    """Uniform in +-1 / sqrt(inputs), bias too; every layer drawn on its own, from the seed alone."""
    model = lc.VAE(20, (400,), random_state=3).initialize(784)
    inputs = {"encoder.0": 784, "latent": 400, "decoder.0": 20, "decoder.1": 400}
    for name, a in model.parameters().items():
        scaled = a * math.sqrt(inputs[name.rpartition(".")[0]])
        assert np.abs(scaled).max() <= 1
        if a.size > 1000:
            assert np.abs(scaled).max() > 0.99
            assert abs(scaled.mean()) < 4 / math.sqrt(3 * a.size)
            assert scaled.std() == pytest.approx(1 / math.sqrt(3), rel=0.02)
    again = lc.VAE(20, (400,), random_state=3).initialize(784).parameters()
    assert {name: bits(a) for name, a in again.items()} == {name: bits(a) for name, a in model.parameters().items()}
    other = lc.VAE(20, (400,), random_state=4).initialize(784).parameters()
    assert abs(np.corrcoef(again["decoder.1.weight"].ravel(), other["decoder.1.weight"].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(again["encoder.0.bias"], again["decoder.0.bias"])[0, 1]) < 0.3


# ---- what the numbers are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_functions_agree_with_the_reference(activation: str) -> None:
    """The chain of layers, the noise and the likelihood, in float64 and in float32."""
    X = draw(9, FEATURES)
    options: dict[str, Any] = {"gain": 2.0, "activation": activation, "dtype": "float64"}
    for likelihood in ({}, {"likelihood": "gaussian", "variance": "learned"}):
        want = functions(fresh((33, 7), backend="reference", **options, **likelihood))
        for dtype, rel in (("float64", 1e-13), ("float32", 2e-5)):
            single = fresh((33, 7), **{**options, **likelihood, "dtype": dtype})
            single.set_parameters(fresh((33, 7), **options, **likelihood).parameters())
            for name, function in functions(single).items():
                expected = want[name](X)
                assert np.abs(function(X) - expected).max() <= rel * np.abs(expected).max(), (name, dtype)


def test_the_bound_of_a_linear_model_is_its_likelihood() -> None:
    """Without hidden layers x ~ N(b, W W' + s I) has a closed form, and with orthogonal columns of W the posterior is a
    diagonal Gaussian: given to the encoder, every importance weight is p(x) itself."""
    rng, s, latent = np.random.default_rng(0), 0.3, 3
    w = np.linalg.qr(rng.normal(size=(FEATURES, latent)))[0] * [2.0, 1.0, 0.5]
    b = rng.normal(size=FEATURES)
    spread = 1 / (1 + (w**2).sum(0) / s)
    back = spread[:, None] * w.T / s
    model = lc.VAE(latent, (), likelihood="gaussian", variance=s, dtype="float64").initialize(FEATURES)
    model.set_parameters({
        "latent.weight": np.concatenate([back, np.zeros_like(back)]),
        "latent.bias": np.concatenate([-back @ b, np.log(spread)]),
        "decoder.0.weight": w,
        "decoder.0.bias": b,
    })  # fmt: skip
    X = rng.normal(size=(7, FEATURES))
    covariance = w @ w.T + s * np.eye(FEATURES)
    square = ((X - b) @ np.linalg.inv(covariance) * (X - b)).sum(1)
    exact = -0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])
    for n in (1, 2, 50, 120):
        assert model.log_likelihood(X, n_samples=n) == pytest.approx(exact, rel=1e-11)
    assert model.score_samples(X, n_samples=20_000) == pytest.approx(exact, rel=2e-3)
    assert model.reconstruct(X) == pytest.approx((X - b) @ back.T @ w.T + b, rel=1e-10)
    model.set_parameters({"latent.bias": np.zeros(2 * latent)})  # a wrong posterior: bounds from below
    means = bounds(model, X)
    assert means == sorted(means)
    assert means[0] < means[-1] - 1
    assert means[-1] < exact.mean()


def bounds(model: Any, X: np.ndarray) -> list[float]:
    """Means over rows and noise of the bound of 1 sample and of more."""
    elbo = [model.score_samples(X, random_state=seed).mean() for seed in range(200)]
    more = [[model.log_likelihood(X, k, random_state=seed).mean() for seed in range(200)] for k in (2, 10, 100)]
    return [float(np.mean(each)) for each in (elbo, *more)]


def test_the_objective_is_the_bound() -> None:
    """loss_and_gradients given the noise that score_samples draws; k samples give the importance-weighted bound."""
    X = draw(9, FEATURES)
    for k in (1, 3):
        model = fresh(gain=2.0, dtype="float64", importance_samples=k)
        noise = philox_normal(7, np.zeros(1), 5 * k, 0, STREAMS["evaluation"]).reshape(k, 5)
        loss, _ = model.loss_and_gradients(X, noise=np.tile(noise, (len(X), 1)))
        bound = model.score_samples(X, random_state=7) if k == 1 else model.log_likelihood(X, k, random_state=7)
        assert loss == pytest.approx(-bound.mean(), rel=1e-12)


def test_bounds_order_themselves_on_a_trained_model() -> None:
    """On a bent plane, whose posteriors are no Gaussians."""
    rng = np.random.default_rng(0)
    X = np.sin(4 * rng.random((60, 2)) @ rng.normal(size=(2, FEATURES)) + np.arange(FEATURES))
    model = lc.VAE(3, (33,), random_state=0, likelihood="gaussian", variance=0.02)
    lc.train(model, X, epochs=60, batch_size=20, learning_rate=1e-2)
    means = bounds(model, X)
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.5
    assert not np.array_equal(model.score_samples(X), model.score_samples(X, random_state=1))


# ---- the same bits ---------------------------------------------------------------------------------------------------

BIT_NETWORKS: dict[str, dict[str, Any]] = {
    "small": {"hidden": (33, 7)},
    "float64": {"hidden": (33,), "dtype": "float64", "activation": "gelu"},
    "none": {"hidden": (), "likelihood": "gaussian"},
    "example": {"hidden": (400,), "latent_dim": 20, "features": 784},
}


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("network", BIT_NETWORKS)
def test_a_row_does_not_depend_on_its_company(network: str, zeros: float) -> None:
    """Batches of 1, 3, 16 and 129, any place in them, and runs cut into pieces, with one thread and two."""
    options = BIT_NETWORKS[network]
    model = fresh(gain=2.0, **options)
    features = options.get("features", FEATURES)
    X = draw(129, features, zeros)
    many = np.concatenate([draw(2100 if features < 100 else 1100, features, zeros, seed=1), X])
    before = lc.get_num_threads()
    for name, function in functions(model).items():
        whole = function(X)
        assert np.ptp(whole, axis=0).min() > 0, name
        for n in (1, 3, 16, 128):
            assert_same_bits(function(X[:n]), whole[:n])
            assert_same_bits(function(X[-n:]), whole[-n:])
        if name != "log_likelihood":
            assert_same_bits(function(many)[-129:], whole)
        lc.set_num_threads(3 - min(before, 2))
        assert_same_bits(function(X), whole)
        lc.set_num_threads(before)


def test_concurrent_calls_give_the_same_bits() -> None:
    """Eight threads over one model: each call takes a workspace of its own."""
    model = fresh((257,), gain=2.0, features=100)
    sizes = (1, 5, 16, 129, 300)
    data = {n: draw(n, 100, 0.5, seed=n) for n in sizes}
    want = {(name, n): f(data[n]) for name, f in functions(model).items() for n in sizes}

    def work(thread: int) -> list[tuple[str, int]]:
        keys = [list(want)[i] for i in np.random.default_rng(thread).permutation(len(want))]
        return [key for key in 2 * keys if bits(functions(model)[key[0]](data[key[1]])) != bits(want[key])]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[]] * 8


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran order": np.asfortranarray,
    "float64": lambda X: X.astype(np.float64),
    "every second row and column": lambda X: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "not aligned": lambda X: np.frombuffer(b"." + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
    "big-endian": lambda X: X.astype(">f4"),
    "list": lambda X: X.tolist(),
    "integers": lambda X: X.astype(np.int8),
    "booleans": lambda X: X.astype(bool),
    "float16": lambda X: X.astype(np.float16),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_input(form: str) -> None:
    """The same bits as for a C-contiguous array of the model's dtype; the input stays as it is."""
    model = fresh(gain=2.0)
    X = (draw(21, FEATURES) > 0.4).astype(np.float32)
    given = FORMS[form](X)
    before = np.array(given)
    assert_same_bits(model.encode(given)[0], model.encode(X)[0])
    assert_same_bits(model.reconstruct(given), model.reconstruct(X))
    assert_same_bits(model.score_samples(given), model.score_samples(X))
    codes = FORMS[form](X[:, :5])
    assert_same_bits(model.decode(codes), model.decode(X[:, :5]))
    assert model.loss_and_gradients(given)[0] == model.loss_and_gradients(X)[0]
    trained = [lc.VAE(2, (7,), random_state=0).fit(data).parameters()["latent.bias"] for data in (given, X)]
    assert_same_bits(*trained)
    assert np.array_equal(np.array(given), before)


# ---- sampling and interpolation --------------------------------------------------------------------------------------


def test_samples() -> None:
    """Sample i is the same for every n; codes are standard normals, and what comes out is their mean."""
    model = fresh(gain=2.0)
    many = lc.sample(model, 2500, random_state=0)
    for n in (1, 7, 1024, 1025):
        assert_same_bits(lc.sample(model, n, random_state=0), many[:n])
    assert not np.array_equal(lc.sample(model, 7, random_state=1), many[:7])
    assert not np.array_equal(lc.sample(model, 7), lc.sample(model, 7))
    assert len(np.unique(many, axis=0)) == 2500
    linear = fresh((), latent_dim=FEATURES, likelihood="gaussian")
    linear.set_parameters({"decoder.0.weight": np.eye(FEATURES), "decoder.0.bias": np.zeros(FEATURES)})
    codes = lc.sample(linear, 20_000, random_state=0)
    assert np.abs(codes.mean(0)).max() < 0.03
    assert np.abs(np.cov(codes.T) - np.eye(FEATURES)).max() < 0.05


@pytest.mark.parametrize("method", ["slerp", "linear"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [2, 3, 9, 50, 99])
def test_interpolation_passes_through_its_points(steps: int, dtype: str, method: str) -> None:
    model = fresh(gain=2.0, dtype=dtype)
    X, z = draw(5, FEATURES), np.random.default_rng(0).normal(size=(5, 5))
    z[2] = 0
    ends = {"data": model.decode(model.encode(X)[0]), "latent": model.decode(z)}
    for space, points in (("data", X), ("latent", z)):
        path = lc.interpolate(model, points, steps=steps, method=method, space=space)
        assert path.shape == (4 * (steps - 1) + 1, FEATURES)
        assert_same_bits(path[:: steps - 1], ends[space])
        assert_same_bits(lc.interpolate(model, *points, steps=steps, method=method, space=space), path)
        pair = lc.interpolate(model, points[1], points[2:3], steps=steps, method=method, space=space)
        assert_same_bits(pair, path[steps - 1 : 2 * steps - 1])


def test_interpolation_follows_its_curve() -> None:
    """A decoder that is the identity shows the codes: a straight line, or an arc of even steps."""
    model = lc.VAE(2, (), likelihood="gaussian", dtype="float64").initialize(2)
    model.set_parameters({"decoder.0.weight": np.eye(2), "decoder.0.bias": np.zeros(2)})
    a, b, t = np.array([2.0, 0.0]), np.array([0.0, 2.0]), np.linspace(0, 1, 7)[:, None]
    line = lc.interpolate(model, a, b, steps=7, method="linear", space="latent")
    assert line == pytest.approx((1 - t) * a + t * b, abs=1e-14)
    arc = lc.interpolate(model, a, b, steps=7, space="latent")
    assert arc == pytest.approx(2 * np.hstack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)]), abs=1e-14)
    for other in (a, -a, 3 * a, 0 * a, [2.0, 1e-300]):
        assert np.isfinite(lc.interpolate(model, a, other, steps=7, space="latent")).all()
