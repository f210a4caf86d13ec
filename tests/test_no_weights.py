"""Models that have no weights yet: what needs them says so, and a training that cannot begin or diverges leaves none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from test_errors import Call, X, Z, vae

import latentcore as lc

UNFITTED: dict[str, Call] = {
    "encode": lambda m: m.encode(X),
    "transform": lambda m: m.transform(X),
    "decode": lambda m: m.decode(Z),
    "inverse_transform": lambda m: m.inverse_transform(Z),
    "reconstruct": lambda m: m.reconstruct(X),
    "score": lambda m: m.score(X),
    "score_samples": lambda m: m.score_samples(X),
    "loss_and_gradients": lambda m: m.loss_and_gradients(X),
    "parameters": lambda m: m.parameters(),
    "set_parameters": lambda m: m.set_parameters({}),
    "plan": lambda m: m.plan("decode"),
    "interpolate": lambda m: lc.interpolate(m, X[0], X[1]),
    "compile": lambda m: lc.compile(m, "decode"),
    "save": lambda m: lc.save(m, "never"),
}


@pytest.mark.parametrize("method", UNFITTED)
@pytest.mark.parametrize("kind", [lc.VAE, lc.Autoencoder], ids=lambda kind: kind.__name__)
def test_no_weights_yet(kind: Any, method: str) -> None:
    with pytest.raises((ValueError, AttributeError), match=f"this {kind.__name__} has no weights yet: .*") as caught:
        UNFITTED[method](kind())
    assert type(caught.value).__name__ == "NotFittedError"
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AttributeError)


@pytest.mark.parametrize("call", [lambda m: m.log_likelihood(X), lambda m: lc.sample(m, 2)], ids=["method", "sample"])
def test_no_weights_of_a_vae(call: Call) -> None:
    with pytest.raises(ValueError, match="this VAE has no weights yet"):
        call(lc.VAE())


WRONG_TRAINING: dict[str, dict[str, Any]] = {
    "range": {"X": X * 255},
    "patience": {"X": X, "patience": 2},
    "validation": {"X": X, "validation": X[:, 1:]},
    "seed": {"X": X, "random_state": -1},
    "rate": {"X": X, "learning_rate": -1},
    "diverges": {"X": X, "learning_rate": 1e38, "epochs": 9},
    "checkpoint": {"X": X, "checkpoint": "missing/folder/m"},
}


@pytest.mark.parametrize("wrong", WRONG_TRAINING)
def test_a_model_without_weights_stays_without(wrong: str) -> None:
    model = vae()
    parameters = copy.deepcopy(model.get_params())
    with pytest.raises((ValueError, FloatingPointError, OSError)):
        lc.train(model, **WRONG_TRAINING[wrong])
    assert not hasattr(model, "n_features_in_")
    assert model.get_params() == parameters
    with pytest.raises(ValueError, match="has no weights yet"):
        model.parameters()
