"""lc.compile: the bits of the model's methods, and a snapshot."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from compiled import BATCH, FEATURES, FUNCTIONS, LATENT, MODELS, X, Z, as_tuple, assert_same, fitted

import latentcore as lc


def poisoned(like: Any) -> Any:
    arrays = tuple(np.full_like(a, np.nan) for a in as_tuple(like))
    return arrays if isinstance(like, tuple) else arrays[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_of_the_method(name: str, function: str, dtype: str) -> None:
    if (name, function) == ("autoencoder", "posterior"):
        return  # test_errors: refused
    model = fitted(name, dtype)
    given, method = FUNCTIONS[function]
    given = given.astype(dtype)
    for batch, threads, release in ((1, 1, None), (3, 2, True), (BATCH, 1, False), (BATCH, 3, True)):
        call = lc.compile(model, function, batch=batch, threads=threads, release_gil=release)
        for rows in {1, min(2, batch), batch}:
            want = method(model, given[:rows])
            assert_same(call(given[:rows]), want)
            out = poisoned(want)
            assert call(given[:rows], out=out) is out
            assert_same(out, want)
            assert_same(call(given[:rows], out), want)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_rows(function: str) -> None:
    given = FUNCTIONS[function][0].astype("float32")
    call = lc.compile(fitted(), function, batch=3)
    want = call(given[:1])
    out = tuple(a[:0] for a in want) if function == "posterior" else want[:0]
    for got in (call(given[:0]), call(given[:0], out=out)):
        for a, b in zip(as_tuple(got), as_tuple(want), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, (0, *b.shape[1:]))


@pytest.mark.parametrize(("inner", "outer"), [("float64", "float32"), ("float32", "float64")])
def test_another_dtype(inner: str, outer: str) -> None:
    model = fitted(dtype=inner)
    other = MODELS["vae"](outer).initialize(FEATURES).set_parameters(model.parameters())
    for function, (given, method) in FUNCTIONS.items():
        call = lc.compile(model, function, batch=BATCH, weights=outer)
        assert_same(call(given.astype(outer)), method(other, given))
        with pytest.raises(ValueError, match=f"x: expected a C-contiguous {outer} array .*, got a {inner} array"):
            call(given.astype(inner))


def test_weights_beyond_float32_are_refused() -> None:
    model = fitted(dtype="float64")
    last = list(model.parameters())[-1]
    model.set_parameters({last: np.full(FEATURES, 1e39)})
    with pytest.raises(ValueError, match=r"weights: decoder\.\d: expected finite numbers in float32"):
        lc.compile(model, "decode", weights="float32")


def test_a_model_of_the_reference_backend() -> None:
    model = lc.VAE(LATENT, (33,), backend="reference", random_state=0).initialize(FEATURES)
    call = lc.compile(model, "decode", batch=BATCH)
    np.testing.assert_allclose(call(Z.astype("f4")), model.decode(Z), rtol=1e-5)


def test_a_snapshot() -> None:
    model = fitted()
    calls = {f: lc.compile(model, f, batch=BATCH) for f in FUNCTIONS}
    before = {f: call(FUNCTIONS[f][0].astype("f4")) for f, call in calls.items()}
    lc.train(model, X, epochs=3)
    model.set_parameters({name: a + 1 for name, a in model.parameters().items()})
    model.set_params(latent_dim=2, hidden=()).fit(X)
    del model
    gc.collect()
    for f, call in calls.items():
        assert_same(call(FUNCTIONS[f][0].astype("f4")), before[f])


def test_compiling_leaves_the_model_alone() -> None:
    model = lc.VAE(LATENT, np.array([33]), random_state=np.random.default_rng(0)).initialize(FEATURES)
    seed, parameters = model.seed_, {name: a.tobytes() for name, a in model.parameters().items()}
    lc.compile(model, "score_samples", weights="float64")
    assert model.seed_ == seed
    assert {name: a.tobytes() for name, a in model.parameters().items()} == parameters
    assert model.decode(Z).dtype == np.float32
