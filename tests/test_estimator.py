"""scikit-learn's conventions, with scikit-learn and without it."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from models import assert_same, draw, state
from numerics import assert_same_bits

import latentcore as lc

KINDS = [lc.VAE, lc.Autoencoder]
SMALL: dict[str, Any] = {"latent_dim": 2, "hidden": (7,), "likelihood": "gaussian", "epochs": 2, "random_state": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_the_arguments_as_given(kind: Any) -> None:
    """Nothing is converted or checked before it is used."""
    rate, hidden = (lambda epoch: 0.1), [7, np.int64(3)]
    model = kind(3, hidden, learning_rate=rate, dtype="none")
    parameters = model.get_params()
    assert list(parameters) == list(inspect.signature(kind).parameters)
    assert parameters["hidden"] is hidden
    assert parameters["learning_rate"] is rate
    assert parameters["dtype"] == "none"
    assert parameters["epochs"] == 10
    assert kind(**parameters).get_params() == parameters
    assert all(getattr(model, name) is value for name, value in parameters.items())
    assert model.set_params() is model
    assert model.set_params(dtype="float64", latent_dim=2) is model
    assert (model.dtype, model.latent_dim) == ("float64", 2)
    with pytest.raises(ValueError, match=rf"depth: expected a parameter of {kind.__name__} \(latent_dim, hidden"):
        model.set_params(depth=3)


def test_repr_shows_what_is_not_default() -> None:
    assert repr(lc.VAE()) == "VAE()"
    assert repr(lc.VAE(3, hidden=[5], beta=0.5)) == "VAE(latent_dim=3, hidden=[5], beta=0.5)"
    assert repr(lc.Autoencoder(likelihood="bernoulli")) == "Autoencoder(likelihood='bernoulli')"
    assert repr(lc.VAE(likelihood="bernoulli")) == "VAE()"


@pytest.mark.parametrize("kind", KINDS)
def test_fit_starts_afresh_and_train_goes_on(kind: Any) -> None:
    X = draw(30, 9)
    model = kind(**SMALL)
    assert model.fit(X) is model
    assert model.n_features_in_ == 9
    assert model.seed_ == 0
    assert model.history_["loss"].shape == (2,)
    first = state(model)
    assert_same(state(model.fit(X, y=np.zeros(30))), first)
    lc.train(model, X)
    assert model.history_["loss"].shape == (4,)
    assert_same_bits(kind(**SMALL).fit_transform(X), model.fit(X).transform(X))
    assert_same_bits(model.inverse_transform(model.transform(X)), model.reconstruct(X))
    assert model.fit(X[:, :5]).n_features_in_ == 5
    model.set_params(latent_dim=3)
    assert model.transform(X[:, :5]).shape == (30, 2)  # counts from the next fit on
    assert model.fit(X).transform(X).shape == (30, 3)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_whole_and_their_own(kind: Any, way: str) -> None:
    X = draw(30, 9)
    untrained = COPIES[way](kind(**SMALL))
    assert untrained.get_params() == kind(**SMALL).get_params()
    with pytest.raises(ValueError, match="no weights yet"):
        untrained.transform(X)
    model = kind(**SMALL, dtype="float64", backend="reference").fit(X)
    twin = COPIES[way](model)
    assert type(twin) is kind
    assert twin.get_params() == model.get_params()
    assert (twin.n_features_in_, twin.seed_) == (9, 0)
    assert_same(state(twin), state(model))
    assert_same_bits(twin.reconstruct(X), model.reconstruct(X))
    before = state(model)
    lc.train(twin, X)
    twin.set_params(epochs=99)
    assert_same(state(model), before)
    assert model.epochs == 2


def test_clone_and_tags() -> None:
    base = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
    utils = pytest.importorskip("sklearn.utils")
    validation = pytest.importorskip("sklearn.utils.validation")
    for kind in KINDS:
        model = kind(**SMALL).fit(draw(30, 9))
        validation.check_is_fitted(model)
        twin = base.clone(model)
        assert twin.get_params() == model.get_params()
        with pytest.raises(pytest.importorskip("sklearn.exceptions").NotFittedError):
            validation.check_is_fitted(twin)
        tags = utils.get_tags(model)
        assert tags.transformer_tags.preserves_dtype == ["float32"]
        assert not tags.target_tags.required


# scikit-learn's own checks, of the constructors' defaults where they can be. Its warnings are errors, but for the one that
# tells that our estimators have no class of its own among their bases.
CHECKED = ["VAE(likelihood='gaussian')", "Autoencoder()", "PCA()", "IncrementalPCA()"]
CHECK_ESTIMATOR = f"""
import json, sys
import sklearn
from sklearn.utils.estimator_checks import check_estimator
import latentcore as lc

results = {{}}
for text in {CHECKED}:
    found = check_estimator(eval("lc." + text), on_skip=None, on_fail=None)
    results[text] = [(c["check_name"], c["status"], repr(c["exception"])) for c in found]
json.dump([sklearn.__version__, results], sys.stdout)
"""


@pytest.fixture(scope="module")
def checks() -> Any:
    """The version of scikit-learn, and what each of its checks found, by estimator."""
    pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is not installed")
    warnings = ["-W", "error", "-W", "ignore:Estimator:UserWarning"]
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}  # its array-API check runs with this alone
    run = subprocess.run(
        [sys.executable, *warnings, "-c", CHECK_ESTIMATOR], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("estimator", CHECKED)
def test_scikit_learns_own_checks(estimator: str, checks: Any) -> None:
    version, results = checks
    found = results[estimator]
    # scikit-learn itself skips what needs pandas
    skipped = [] if importlib.util.find_spec("pandas") else ["check_sample_weights_pandas_series"]
    assert [check for check in found if check[1] != "passed" and not (check[1] == "skipped" and check[0] in skipped)] == []
    assert len(found) >= 40
    assert "check_array_api_input" in {name for name, *_ in found} or tuple(map(int, version.split(".")[:2])) < (1, 9)


def test_in_a_pipeline_and_a_search() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    X = rng.normal(size=(120, 9)) + 2 * y[:, None]
    vae = lc.VAE(2, (16,), likelihood="gaussian", epochs=20, batch_size=20, learning_rate=1e-2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), vae, LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.9
    assert pipeline[:2].transform(X).shape == (120, 2)
    assert pipeline[:2].inverse_transform(pipeline[:2].transform(X)).shape == (120, 9)
    search = GridSearchCV(pipeline, {"vae__latent_dim": [1, 2]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.8
    scores = GridSearchCV(lc.Autoencoder(epochs=2, random_state=0), {"latent_dim": [1, 2]}, cv=2).fit(X)
    assert np.isfinite(scores.cv_results_["mean_test_score"]).all()  # by the model's own score


CALLS = ["parameters()", "encode(X)", "decode(X)", "reconstruct(X)", "transform(X)", "inverse_transform(X)",
         "score_samples(X)", "score(X)", "log_likelihood(X)", "loss_and_gradients(X)", "set_parameters({})",
         "plan()"]  # fmt: skip


def test_not_fitted_is_scikit_learns_error() -> None:
    exceptions = pytest.importorskip("sklearn.exceptions", reason="scikit-learn is not installed")
    X, model = draw(3, 9), lc.VAE()
    for call in CALLS:
        with pytest.raises(exceptions.NotFittedError, match=r"this VAE has no weights yet: call fit, lc\.train or"):
            eval(f"model.{call}", {"model": model, "X": X})
    for function in (lambda: lc.sample(model, 1), lambda: lc.interpolate(model, X), lambda: lc.save(model, "never")):
        with pytest.raises(exceptions.NotFittedError):
            function()


WITHOUT = f"""
import sys
sys.modules["sklearn"] = sys.modules["sklearn.exceptions"] = sys.modules["sklearn.utils"] = None
import numpy as np
import latentcore as lc

X, model = np.ones((3, 9)), lc.VAE(2, (7,), epochs=2)
for call in {CALLS}:
    try:
        eval(f"model.{{call}}")
    except Exception as error:
        assert type(error).__name__ == "NotFittedError", (call, error)
        assert isinstance(error, ValueError) and isinstance(error, AttributeError), call
        assert "this VAE has no weights yet" in str(error)
        assert type(error).__mro__[1:3] == (ValueError, AttributeError)
    else:
        raise SystemExit(call)
print(model.fit(X).fit_transform(X).shape, model)
assert not [name for name, module in sys.modules.items() if name.startswith("sklearn") and module]
"""


def test_without_scikit_learn() -> None:
    """All of it works, and the error has the same name and bases."""
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout == "(3, 2) VAE(latent_dim=2, hidden=(7,), epochs=2)\n"
