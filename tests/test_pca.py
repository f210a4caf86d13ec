"""PCA: the numbers of scikit-learn's by every solver, and what scikit-learn's does not promise."""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits

import latentcore as lc
from latentcore.models.spectrum import most_likely

DATA = os.environ.get("LATENTCORE_DATA")
EXACT = ("full", "covariance_eigh")
SOLVERS = (*EXACT, "randomized")
ATTRIBUTES = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_",
              "noise_variance_", "n_components_", "n_samples_", "n_features_in_")  # fmt: skip


def data(rows: int, features: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Rows of variances well apart along random axes, about a mean that is not zero."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((features, features)))[0]
    spread = 0.9 ** np.arange(features) + 0.02
    return (rng.standard_normal((rows, features)) * spread @ axes + rng.uniform(-3, 3, features)).astype(dtype)


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between the rows of a and those of b, in radians."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return 2 * np.arcsin(np.minimum(np.linalg.norm(a - b * np.sign((a * b).sum(1, keepdims=True)), axis=1) / 2, 1))


# ---- beside scikit-learn ---------------------------------------------------------------------------------------------


def peer(n_components: Any, **arguments: Any) -> Any:
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    return decomposition.PCA(n_components, svd_solver="full", **arguments)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("shape", "n_components"),
    [
        ((200, 20), 5), ((200, 20), 20), ((200, 20), None), ((25, 20), 1), ((60, 20), 0.8), ((60, 20), 0.999),
        ((60, 20), "mle"), ((600, 30), 7), ((20, 60), 5), ((20, 60), 19), ((20, 60), 0.5), ((2, 7), 1), ((20, 20), 4),
        ((5, 1), 1),
    ],
    ids=str,
)  # fmt: skip
def test_the_numbers_of_scikit_learn(shape: tuple[int, int], n_components: Any, solver: str, whiten: bool) -> None:
    if solver == "randomized" and isinstance(n_components, (str, float)):
        return  # test_errors: refused
    X, other = data(*shape), data(9, shape[1], 1)
    want = peer(n_components, whiten=whiten).fit(X)
    got = lc.PCA(n_components, svd_solver=solver, whiten=whiten, iterated_power=60, random_state=0).fit(X)
    close = {"rtol": 1e-8, "atol": 1e-8 * float(want.explained_variance_[0])}
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), err_msg=name, **close)
    z = got.transform(other)
    np.testing.assert_allclose(z, want.transform(other), **close)
    np.testing.assert_allclose(got.inverse_transform(z), want.inverse_transform(z), **close)
    np.testing.assert_allclose(got.fit_transform(X), want.transform(X), **close)
    assert list(got.get_feature_names_out()) == list(want.get_feature_names_out())
    model = peer(n_components).fit(X)  # scikit-learn scales the covariance twice where it whitens
    np.testing.assert_allclose(got.get_covariance(), model.get_covariance(), **close)
    if got.noise_variance_ > 1e-9 or got.n_components_ == shape[1] < shape[0]:
        np.testing.assert_allclose(got.get_precision(), model.get_precision(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(got.score_samples(other), model.score_samples(other), rtol=1e-7)
        assert got.score(other) == pytest.approx(model.score(other), rel=1e-7)


def test_most_likely_number_of_components() -> None:
    """As scikit-learn finds it, pair by pair."""
    assess = pytest.importorskip("sklearn.decomposition._pca", reason="scikit-learn is not installed")._infer_dimension
    rng = np.random.default_rng(0)
    for features, signal_, rows in itertools.product((2, 3, 10, 40), (1, 2, 5), (10, 50, 1000)):
        variance = np.sort(rng.uniform(0.9, 1.1, features) + 5 * (np.arange(features) < signal_) * rng.random(features))
        assert most_likely(variance[::-1].copy(), rows) == assess(variance[::-1].copy(), rows)
    X = data(300, 20) + np.random.default_rng(1).standard_normal((300, 20))
    assert lc.PCA("mle").fit(X).n_components_ == peer("mle").fit(X).n_components_
    assert most_likely(np.array([2.0, 1.0, 0.0, 0.0]), 10) in (1, 2)
    assert most_likely(np.array([1.0, 1.0, 1.0]), 10) in (1, 2)
    assert most_likely(np.zeros(3), 10) == 1


# ---- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(3000, 40), (30, 90)], ids=str)
def test_an_offset_of_a_million(shape: tuple[int, int], solver: str) -> None:
    X = data(*shape, dtype="float32") * np.float32(10) + np.float32(1e6)
    exact = lc.PCA(6, svd_solver="full").fit(X.astype(np.float64))
    model = lc.PCA(6, svd_solver=solver, random_state=0).fit(X)
    assert model.components_.dtype == np.float32
    assert angles(model.components_, exact.components_).max() < 1e-3
    np.testing.assert_allclose(model.explained_variance_, exact.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(model.mean_, exact.mean_, rtol=1e-12)
    codes = exact.transform(X)
    np.testing.assert_allclose(model.transform(X), codes, atol=2e-3 * np.abs(codes).max())
    np.testing.assert_allclose(model.score_samples(X), exact.score_samples(X), rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deficient_data(dtype: str, solver: str) -> None:
    """No negative variance, and orthonormal axes also where there is no variance."""
    rng = np.random.default_rng(0)
    cases = {
        "rank 2": rng.standard_normal((50, 2)) @ rng.standard_normal((2, 12)) + 100,
        "rank 2, wide": rng.standard_normal((9, 2)) @ rng.standard_normal((2, 30)) + 100,
        "constant": np.full((20, 6), 0.1),
        "one feature of three": np.arange(10)[:, None] * np.array([0.0, 1.0, 0.0]),
        "two rows": np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 5.0]]),
    }
    for name, X in cases.items():
        X = X.astype(dtype)
        for whiten in (False, True):
            model = lc.PCA(svd_solver=solver, whiten=whiten, random_state=0).fit(X)
            k = min(X.shape)
            assert model.components_.shape == (k, X.shape[1]), name
            V = model.components_.astype(np.float64)
            np.testing.assert_allclose(V @ V.T, np.eye(k), atol=50 * np.finfo(dtype).eps, err_msg=name)
            assert (model.explained_variance_ >= 0).all(), name
            assert (np.diff(model.explained_variance_) <= 0).all(), name
            assert model.noise_variance_ >= 0
            assert V[np.arange(k), np.abs(V).argmax(1)].min() > 0
            back = model.inverse_transform(model.transform(X))
            np.testing.assert_allclose(back, X, atol=1e3 * np.finfo(dtype).eps * np.abs(X).max(), err_msg=name)
            assert np.isfinite(model.transform(X)).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_backends_agree(solver: str, backend: str) -> None:
    X = data(80, 12)
    exact = lc.PCA(4, svd_solver="full").fit(X)
    model = lc.PCA(4, svd_solver=solver, backend=backend, whiten=True, random_state=0, iterated_power=60).fit(X)
    assert angles(model.components_, exact.components_).max() < 1e-7
    np.testing.assert_allclose(model.transform(X), exact.transform(X) / np.sqrt(exact.explained_variance_), atol=1e-6)
    np.testing.assert_allclose(model.score_samples(X), exact.score_samples(X), rtol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_bits_for_any_number_of_threads(solver: str) -> None:
    before, X = lc.get_num_threads(), data(5000, 70, dtype="float32")
    try:
        found = []
        for threads in (1, 2, 3):
            lc.set_num_threads(threads)
            found.append(lc.PCA(9, svd_solver=solver, random_state=5).fit(X))
    finally:
        lc.set_num_threads(before)
    for other in found[1:]:
        for name in ATTRIBUTES:
            assert np.asarray(getattr(other, name)).tobytes() == np.asarray(getattr(found[0], name)).tobytes()


def test_a_row_does_not_depend_on_its_companions() -> None:
    X = data(2500, 33, dtype="float32")
    model = lc.PCA(7, whiten=True).fit(X)
    for method in (model.transform, model.score_samples, lambda rows: model.inverse_transform(model.transform(rows))):
        whole = method(X)
        for rows in (slice(0, 1), slice(7, 24), slice(2499, 2500), slice(1000, 2200)):
            assert_same_bits(method(X[rows]), whole[rows])


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [None, 3, 0.7])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(40, 8), (12, 8), (12, 30), (6, 40)], ids=str)
def test_a_weight_is_so_many_rows(shape: tuple[int, int], solver: str, n_components: Any) -> None:
    if solver == "randomized" and n_components == 0.7:
        return  # test_errors: refused
    X = data(*shape)
    weight = np.random.default_rng(1).integers(0, 4, len(X))
    make = lambda: lc.PCA(n_components, svd_solver=solver, random_state=0, iterated_power=60)  # noqa: E731
    got, want = make().fit(X, sample_weight=weight), make().fit(X.repeat(weight, 0))
    for name in ATTRIBUTES:
        if name != "components_":
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, atol=1e-7, err_msg=name)
    varied = want.explained_variance_ > 1e-10
    assert angles(got.components_, want.components_)[varied].max() < 1e-7
    np.testing.assert_allclose(got.transform(X[weight > 0]), want.transform(X[weight > 0]), atol=1e-7)


def test_weights_of_no_consequence() -> None:
    X = data(50, 8)
    plain = lc.PCA(3).fit(X)
    ones = lc.PCA(3).fit(X, sample_weight=np.ones(50))
    zeros = lc.PCA(3).fit(np.vstack([X, X[:9] * 100]), sample_weight=[1] * 50 + [0] * 9)
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(ones, name), getattr(plain, name), rtol=1e-12, err_msg=name)
        assert np.array_equal(getattr(zeros, name), getattr(ones, name))
    halves = lc.PCA(3).fit(X, sample_weight=np.full(50, 0.5))
    assert halves.n_samples_ == 50
    np.testing.assert_allclose(halves.explained_variance_, plain.explained_variance_ * 49 / 50 * 25 / 24)


# ---- solvers ---------------------------------------------------------------------------------------------------------


def test_auto() -> None:
    def variances(solver: str, shape: tuple[int, int], **parameters: Any) -> bytes:
        model = lc.PCA(svd_solver=solver, random_state=3, **parameters).fit(data(*shape, dtype="float32"))
        return bytes(model.explained_variance_)

    few: dict[str, Any] = {"n_components": 1, "n_oversamples": 1}
    cases: list[tuple[str, tuple[int, int], dict[str, Any]]] = [
        ("full", (500, 20), {}),
        ("covariance_eigh", (501, 20), {}),
        ("covariance_eigh", (20, 501), {"n_components": 0.9}),
        ("covariance_eigh", (501, 100), few),
        ("randomized", (501, 101), few),
        ("randomized", (101, 501), few),
    ]
    for solver, shape, parameters in cases:
        assert variances("auto", shape, **parameters) == variances(solver, shape, **parameters)
    assert len({variances(solver, (501, 101), **few) for solver in SOLVERS}) == 3


def test_random_projections() -> None:
    X = data(400, 60)
    exact = lc.PCA(5, svd_solver="full").fit(X)
    model = lc.PCA(5, svd_solver="randomized", random_state=7)
    first, again = model.fit(X).components_, lc.PCA(5, svd_solver="randomized", random_state=7).fit(X)
    assert_same_bits(again.components_, first)
    assert again.seed_ == 7
    assert not np.array_equal(model.set_params(random_state=8).fit(X).components_, first)
    errors = []
    for power in (0, 1, 2, "auto"):
        model.set_params(iterated_power=power).fit(X)
        errors.append(angles(model.components_, exact.components_).max())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[3] < 1e-4
    drawn = lc.PCA(5, svd_solver="randomized").fit(X)
    repeated = lc.PCA(5, svd_solver="randomized", random_state=drawn.seed_).fit(X)
    assert_same_bits(drawn.components_, repeated.components_)
    assert lc.PCA(5).fit(X).seed_ is None


# ---- directions without variance ---------------------------------------------------------------------------------------


def test_what_has_no_variance_is_completed_in_one_way() -> None:
    """Axes that rounding would choose depend on the others alone, whatever the rows, their order and their weights."""
    rng = np.random.default_rng(0)
    distinct = rng.standard_normal((6, 12))
    times = np.array([1, 2, 1, 3, 5, 4])
    repeated = np.repeat(distinct, times, 0)[rng.permutation(16)]
    for solver in EXACT:
        want = lc.PCA(svd_solver=solver).fit(repeated)
        assert want.components_.shape == (12, 12)
        np.testing.assert_allclose(want.components_ @ want.components_.T, np.eye(12), atol=1e-14)
        for got in (lc.PCA(svd_solver=other).fit(distinct, sample_weight=times) for other in EXACT):
            np.testing.assert_allclose(got.components_, want.components_, atol=1e-12)


def test_constant_features_are_axes() -> None:
    X = data(50, 5) @ np.eye(5, 9, 2)
    model = lc.PCA().fit(X)
    np.testing.assert_allclose(model.components_[5:], np.eye(9)[[0, 1, 7, 8]], atol=1e-14)
    assert (model.explained_variance_[5:] <= 1e-30).all()


@pytest.mark.parametrize("n_components", [None, 5, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_density_without_variance_in_some_directions(n_components: int | None, dtype: str) -> None:
    """Finite everywhere, and far lower where data cannot be; a covariance of zero has none."""
    X = (data(50, 5) @ np.linalg.qr(data(9, 9))[0][:5]).astype(dtype)
    model = lc.PCA(n_components, svd_solver="covariance_eigh").fit(X)
    inside = model.score_samples(X)
    outside = model.score_samples(X + model.components_[0] + 0.1 * np.linalg.svd(X)[2][8])
    assert np.isfinite(inside).all()
    assert inside.min() > outside.max() + 1000
    with pytest.raises(np.linalg.LinAlgError, match=r"the covariance of the model is zero: .* all the same"):
        lc.PCA(1).fit(np.ones((4, 3))).score_samples(np.ones((4, 3)))


# ---- what goes in and comes out --------------------------------------------------------------------------------------


def test_dtypes() -> None:
    X = data(30, 5)
    for given, want in (("f4", "f4"), ("f8", "f8"), ("f2", "f8"), (">f4", "f4"), ("i8", "f8"), ("g", "f8")):
        model = lc.PCA(2).fit((X * 10).astype(given))
        assert model.components_.dtype == want
        assert model.transform(X).dtype == model.inverse_transform(np.zeros((1, 2))).dtype == want
        for name in ("mean_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
            assert getattr(model, name).dtype == np.float64
        assert model.score_samples(X).dtype == model.get_covariance().dtype == np.float64
        assert type(model.noise_variance_) is float
    with pytest.raises(ValueError, match="read-only"):
        model.components_[0, 0] = 0


def test_data_is_left_as_it_is() -> None:
    X = data(60, 9)
    X.flags.writeable = False
    for solver in SOLVERS:
        lc.PCA(3, svd_solver=solver, random_state=0).fit(X, sample_weight=np.arange(60))
    strided = np.asfortranarray(X)[::2]
    assert_same_bits(lc.PCA(3).fit(strided).components_, lc.PCA(3).fit(X[::2].copy()).components_)


def test_a_failed_fit_changes_nothing() -> None:
    X = data(30, 6)
    model = lc.PCA(3).fit(X)
    before = {name: np.asarray(getattr(model, name)).tobytes() for name in ATTRIBUTES}
    holed = X.copy()
    holed[29, 5] = np.nan
    for wrong, says in (
        (holed, "X: expected finite numbers in float64, got NaN"),
        (np.where(np.isnan(holed), np.inf, X), "X: expected finite numbers in float64, got infinity"),
        (X[:1], "got 1 sample"),
        (X[:, :2], "n_components: expected an integer from 1 to 2, got 3"),
        (1e200 * X, "X: expected numbers whose squares are finite"),
        (1e308 * np.sign(X), "X: expected numbers whose squares are finite"),
    ):
        for solver in SOLVERS:
            with pytest.raises(ValueError, match=says):
                model.set_params(svd_solver=solver).fit(wrong)
            assert {name: np.asarray(getattr(model, name)).tobytes() for name in ATTRIBUTES} == before
    with pytest.raises(ValueError, match="no components yet: call fit first"):
        lc.PCA().transform(X)


@pytest.mark.parametrize("solver", ["covariance_eigh", "randomized"])
def test_ctrl_c(solver: str) -> None:
    X = np.random.default_rng(0).standard_normal((100_000, 128)).astype(np.float32)
    model = lc.PCA(3, svd_solver=solver, random_state=0).fit(X[:500]).set_params(iterated_power=1000)
    before = {name: getattr(model, name) for name in ATTRIBUTES}

    def fit_on() -> None:
        while True:
            model.fit(X)
            vars(model).update(before)

    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            fit_on()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert all(getattr(model, name) is array for name, array in before.items())


def test_samples_are_of_the_model() -> None:
    X = data(300, 6)
    model = lc.PCA(3, whiten=True).fit(X)
    samples = lc.sample(model, 40_000, random_state=0)
    assert_same_bits(lc.sample(model, 9, random_state=0), samples[:9])
    V = model.components_
    along = np.diag(model.explained_variance_ - model.noise_variance_)
    np.testing.assert_allclose(samples.mean(0), model.mean_, atol=0.02)
    np.testing.assert_allclose(np.cov(samples.T), V.T @ along @ V, atol=0.02)


def test_interpolation() -> None:
    X = data(30, 6)
    model = lc.PCA(2).fit(X)
    ends = model.inverse_transform(model.transform(X[:2]))
    path = lc.interpolate(model, X[0], X[1], steps=5, method="linear")
    np.testing.assert_allclose(path, ends[0] + np.linspace(0, 1, 5)[:, None] * (ends[1] - ends[0]), atol=1e-12)
    path = lc.interpolate(model, *model.transform(X[:3]), steps=3, space="latent")
    np.testing.assert_allclose(path[[0, 2, 4]], model.inverse_transform(model.transform(X[:3])), atol=1e-12)
