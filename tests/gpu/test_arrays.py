"""Arrays at the door of models on the GPU backend: they come back where they came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits
from place import FITTED, ROWS, Foreign, Place, X, Z, near, vae

import latentcore as lc
from latentcore.ops import Clock

pytestmark = pytest.mark.usefixtures("place", "few_rows_at_a_time")


CALLS: dict[str, tuple[str, np.ndarray, Callable[[Any, Any], Any]]] = {
    "encode": ("VAE", X, lambda m, x: m.encode(x)[1]),
    "transform": ("VAE", X, lambda m, x: m.transform(x)),
    "decode": ("VAE", Z, lambda m, z: m.decode(z)),
    "reconstruct": ("Autoencoder", X, lambda m, x: m.reconstruct(x)),
    "score_samples": ("VAE", X, lambda m, x: m.score_samples(x, 2)),
    "log_likelihood": ("VAE", X[:3], lambda m, x: m.log_likelihood(x, 3)),
    "interpolate": ("VAE", X[:3], lambda m, x: lc.interpolate(m, x[0], x[1:], steps=3)),
    "interpolate codes": ("VAE", Z, lambda m, z: lc.interpolate(m, z, steps=2, method="linear", space="latent")),
    "forward": ("MLP", X, lambda m, x: m.forward(x)),
    "PCA transform": ("PCA", X, lambda m, x: m.transform(x)),
    "PCA inverse_transform": ("PCA", Z, lambda m, z: m.inverse_transform(z)),
    "PCA score_samples": ("PCA", X, lambda m, x: m.score_samples(x)),
    "BatchedPCA transform": ("BatchedPCA", X, lambda m, x: m.transform([x[:7], x[7:]])[1]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_arrays_come_back_where_they_came_from(name, place):
    kind, given, call = CALLS[name]
    model = FITTED[kind]()
    want = call(model, given)
    model.to("cuda")
    home, there = call(model, given), call(model, place.put(given))
    assert (type(home), type(there)) == (np.ndarray, place.kind)
    near(home, want)
    assert_same_bits(place.read(there), home)


MADE: dict[str, Callable[[Place], Any]] = {
    "DLPack": lambda p: Foreign(p.put(X)),
    "Fortran": lambda p: p.put(X.T.copy()).T,
    "strided": lambda p: p.put(np.repeat(X, 2, 1))[:, ::2],
    "float64": lambda p: p.put(X.astype(np.float64)),
    "unaligned": lambda p: p.put(np.vstack([X[:1], X]))[1:],
}


@pytest.mark.parametrize("name", MADE)
def test_anything_on_the_device_is_taken(name, place):
    model = FITTED["VAE"]().to("cuda")
    found = model.transform(MADE[name](place))
    assert type(found) is place.kind
    assert_same_bits(place.read(found), model.transform(X))


def test_what_is_wrong_on_the_device_is_said(place):
    model = FITTED["VAE"]().to("cuda")
    for wrong, says in (
        (X * np.nan, "finite numbers in float32, got NaN"),
        (X * 9, r"data in \[0, 1\]"),
        (X[:, 1:], "6 features, got 5"),
    ):
        with pytest.raises(ValueError, match=f"X: expected {says}"):
            model.encode(place.put(wrong))


def test_gradients_are_those_of_the_cpu(place):
    model = vae(importance_samples=2).fit(X)
    noise = np.random.default_rng(0).standard_normal((2 * ROWS, 2)).astype(np.float32)
    want_loss, want = model.loss_and_gradients(X, noise)
    loss, got = model.to("cuda").loss_and_gradients(place.put(X), place.put(noise))
    near(loss, want_loss)
    for name in want:
        near(got[name], want[name])


def test_samples_are_those_of_the_cpu():
    model = FITTED["VAE"]()
    want = lc.sample(model, 5, random_state=3)
    near(lc.sample(model.to("cuda"), 5, random_state=3), want)


def test_arrays_that_take_turns_are_recorded_once(place, monkeypatch):
    model, recorded, written = FITTED["VAE"]().to("cuda"), [], []
    record, write = place.device.record, place.device.write
    monkeypatch.setattr(place.device, "record", lambda *given, **how: (recorded.append(1), record(*given, **how))[1])
    monkeypatch.setattr(place.device, "write", lambda *given: (written.append(1), write(*given))[1])
    plan, z, outputs = model._plan("decode"), place.put(Z), [place.put(np.zeros_like(X[:4])) for _ in range(2)]
    written.clear()
    bound = model._backend.bind(plan, 4, model._storage)
    for turn in range(6):
        bound.run({"z": z, "x_mean": outputs[turn % 2]}, Clock(rows=4))
    assert (len(recorded), len(written)) == (2, 1)
    for output in outputs:
        assert_same_bits(place.read(output), model.decode(Z))
