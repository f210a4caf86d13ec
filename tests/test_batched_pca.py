"""A PCA for each group: against a loop of scikit-learn's, and where that has none."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits

import latentcore as lc

RNG = np.random.default_rng(0)
RAGGED = [60, 5, 9, 1, 33, 8, 2, 9, 16]
OPTIONS: list[dict[str, Any]] = [
    {"n_components": 3, "whiten": whiten, "svd_solver": solver}
    for whiten in (False, True)
    for solver in ("auto", "covariance_eigh", "full")
]  # fmt: skip


def draw(*shape: int, offset: float = 3.0) -> np.ndarray:
    """Rows of correlated features, so that no two variances are close."""
    d = shape[-1]
    return offset + RNG.standard_normal(shape) * 2.0 ** -np.arange(d) @ np.linalg.qr(RNG.standard_normal((d, d)))[0]


def ragged(d: int = 8, dtype: str = "float64") -> list[np.ndarray]:
    return [draw(n, d).astype(dtype) for n in RAGGED]


def truth(X: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The definition, in float64."""
    X = X.astype(np.float64)
    mean, n = X.mean(0), len(X)
    _, s, vt = np.linalg.svd(X - mean, full_matrices=n < X.shape[1])
    values = np.zeros(max(k, X.shape[1]))
    values[: min(n - 1, len(s))] = s[: n - 1] ** 2
    variance, left = values / max(n - 1, 1), min(X.shape) - k
    return {
        "mean_": mean,
        "components_": vt[:k] * np.sign(vt[np.arange(k), np.abs(vt[:k]).argmax(1)])[:, None],
        "explained_variance_": variance[:k],
        "explained_variance_ratio_": variance[:k] / variance.sum() if n > 1 else np.zeros(k),
        "singular_values_": np.sqrt(values[:k]),
        "noise_variance_": variance[k:].sum() / left if left > 0 else np.float64(0),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["auto", "covariance_eigh", "full"])
def test_every_group_is_a_pca(solver: str, dtype: str) -> None:
    groups, near = ragged(dtype=dtype), 1e-5 if dtype == "float32" else 1e-9
    pca = lc.BatchedPCA(4, svd_solver=solver).fit(groups)
    assert (pca.n_components_, pca.n_features_in_, pca.n_samples_.tolist()) == (4, 8, RAGGED)
    assert pca.components_.dtype == dtype
    assert pca.mean_.dtype == pca.explained_variance_.dtype == np.float64
    for g, X in enumerate(groups):
        for name, want in truth(X, 4).items():
            got = getattr(pca, name)[g]
            if name == "components_":  # those without variance are arbitrary, save that they complete the basis
                np.testing.assert_allclose(got @ got.T, np.eye(4), atol=1e-6 if dtype == "float32" else 1e-13)
                got, want = got[: len(X) - 1], want[: len(X) - 1]
            np.testing.assert_allclose(got, want, rtol=near, atol=near, err_msg=name)
        assert (pca.explained_variance_[g, len(X) - 1 :] == 0).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scikit_learns_pca_in_a_loop(options: dict[str, Any]) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    X = draw(20, 30, 8)
    pca = lc.BatchedPCA(**options)
    Z = pca.fit_transform(X)
    assert Z.shape == (20, 30, 3)
    back = pca.inverse_transform(Z)
    for g in range(20):
        peer = decomposition.PCA(3, whiten=options["whiten"], svd_solver="full")
        np.testing.assert_allclose(Z[g], peer.fit_transform(X[g]), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(back[g], peer.inverse_transform(peer.transform(X[g])), rtol=1e-9, atol=1e-9)
        for name in ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_",
                     "noise_variance_"):  # fmt: skip
            np.testing.assert_allclose(getattr(pca, name)[g], getattr(peer, name), rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("n", "d", "k"), [(30, 5, 5), (4, 7, 4), (1, 3, 1)])
def test_none_takes_what_the_groups_determine(n: int, d: int, k: int) -> None:
    assert lc.BatchedPCA().fit(draw(3, n, d)).components_.shape == (3, k, d)
    assert lc.BatchedPCA().fit([draw(n, d), draw(1, d)]).components_.shape == (2, k, d)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_groups_come_back_as_they_came(options: dict[str, Any]) -> None:
    groups = ragged()
    pca = lc.BatchedPCA(**options | {"n_components": 8}).fit(groups)
    codes = pca.transform(groups)
    assert isinstance(codes, list)
    assert [z.shape for z in codes] == [(n, 8) for n in RAGGED]
    for X, back in zip(groups, pca.inverse_transform(codes)):
        np.testing.assert_allclose(back, X, rtol=1e-9)  # whitened codes of no variance are 0, and lose nothing
    if options["whiten"]:
        for X, z in zip(groups, codes):
            assert np.isfinite(z).all()
            if len(X) > 8:
                np.testing.assert_allclose(z.var(0, ddof=1), 1, rtol=1e-6)
            assert (z[:, max(len(X) - 1, 0) :] == 0).all()
    assert [z.shape for z in pca.transform([X[:0] for X in groups])] == [(0, 8)] * len(groups)
    X = draw(3, 9, 4)
    np.testing.assert_array_equal(lc.BatchedPCA().fit(list(X)).transform(list(X)), lc.BatchedPCA().fit(X).transform(X))


@pytest.mark.parametrize("solver", ["auto", "covariance_eigh", "full"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_group_does_not_depend_on_its_companions(dtype: str, solver: str) -> None:
    groups = ragged(dtype=dtype)
    threads = lc.get_num_threads()
    whole = lc.BatchedPCA(3, svd_solver=solver).fit(groups)
    codes = whole.transform(groups)
    try:
        lc.set_num_threads(threads % 2 + 1)
        for chosen in ([0], [4, 0, 7], range(1, len(groups))):
            some = lc.BatchedPCA(3, svd_solver=solver).fit([groups[i] for i in chosen])
            at = list(chosen)
            assert_same_bits(some.mean_, whole.mean_[at])
            assert_same_bits(some.components_, whole.components_[at])
            assert_same_bits(some.explained_variance_, whole.explained_variance_[at])
            for z, i in zip(some.transform([groups[i] for i in chosen]), chosen):
                assert_same_bits(z, codes[i])
        rows = [X[:1] for X in groups]
        for z, all_rows in zip(whole.transform(rows), codes):
            assert_same_bits(z, all_rows[:1])
    finally:
        lc.set_num_threads(threads)


def test_data_with_an_offset_keeps_its_digits() -> None:
    X = draw(6, 40, 5, offset=0)
    far = (X + 1e6).astype(np.float32)
    exact, pca = lc.BatchedPCA().fit(far.astype(np.float64)), lc.BatchedPCA().fit(far)
    np.testing.assert_allclose(np.abs((pca.components_ * exact.components_).sum(2)), 1, atol=1e-6)
    np.testing.assert_allclose(pca.transform(far), exact.transform(far), atol=1e-4)


def test_dtypes() -> None:
    X = RNG.integers(0, 9, (3, 7, 4))
    for given, kept in (("int64", "float64"), ("uint8", "float64"), ("float32", "float32"), ("float64", "float64")):
        pca = lc.BatchedPCA().fit(X.astype(given))
        assert pca.transform(X).dtype == pca.inverse_transform(np.zeros((3, 2, 4))).dtype == kept
    assert lc.BatchedPCA().fit([X[0].astype(np.float32), X[1]]).components_.dtype == np.float64


def test_reference_backend_agrees() -> None:
    groups = ragged()
    cpu, reference = lc.BatchedPCA(3).fit(groups), lc.BatchedPCA(3, backend="reference").fit(groups)
    np.testing.assert_allclose(cpu.explained_variance_, reference.explained_variance_, atol=1e-12)
    for a, b in zip(cpu.transform(groups), reference.transform(groups)):
        np.testing.assert_allclose(a[:, : len(a) - 1], b[:, : len(b) - 1], atol=1e-9)


def test_many_groups_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    X = draw(2500, 6, 3)
    whole = lc.BatchedPCA().fit(X)
    monkeypatch.setattr("latentcore.models.batched_pca._SLICE", 8 * 9 * 100)
    assert_same_bits(lc.BatchedPCA().fit(X).components_, whole.components_)
    assert_same_bits(lc.BatchedPCA(svd_solver="full").fit(X[:90]).mean_, lc.BatchedPCA(svd_solver="full").fit(X).mean_[:90])


def test_copies() -> None:
    X = draw(4, 9, 3)
    pca = lc.BatchedPCA(2, whiten=True).fit(X)
    for twin in (pickle.loads(pickle.dumps(pca)), copy.deepcopy(pca)):
        assert repr(twin) == "BatchedPCA(n_components=2, whiten=True)"
        assert_same_bits(twin.transform(X), pca.transform(X))


def test_tags() -> None:
    utils = pytest.importorskip("sklearn.utils", reason="scikit-learn is not installed")
    tags = utils.get_tags(lc.BatchedPCA()).input_tags
    assert (tags.two_d_array, tags.three_d_array) == (False, True)  # check_estimator has no checks for such


X = draw(4, 6, 3)
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "one group": (X[0], ValueError, r"X: expected an array \(batch, rows, features\) or a sequence .*, got shape \(6, 3\)"),
    "no group": ([], ValueError, r"X: expected at least one group, got \[\]"),
    "no group in an array": (X[:0], ValueError, r"X: expected at least one group, got array\(\[\], .*"),
    "text": ("groups", TypeError, "X: expected a dense array of real numbers, got str"),
    "a text in it": ([X[0], "groups"], TypeError, r"X\[1\]: expected a dense array of real numbers, got str"),
    "one row": ([X[0], X[1, 0]], ValueError, r"X\[1\]: expected a 2-D array .*, got shape \(3,\)\. Reshape your data: .*"),
    "width": ([X[0], X[1, :, :2]], ValueError, r"X\[1\]: expected 3 features, got 2 .*"),
    "no width": (
        X[:, :, :0],
        ValueError,
        r"X: .*, got 0 feature\(s\) \(shape=\(24, 0\)\) while a minimum of 1 is required\.",
    ),
    "no rows": ([X[0], X[1], X[2, :0]], ValueError, r"X\[2\]: expected at least one row, got shape \(0, 3\)"),
    "no rows at all": (X[:, :0], ValueError, r"X\[0\]: expected at least one row, got shape \(0, 3\)"),
    "NaN": ([X[0], X[1], X[2] * np.nan], ValueError, r"X\[2\]: expected finite numbers in float64, got NaN"),
    "infinity": (np.where(np.arange(4) == 1, np.inf, X.T).T, ValueError, r"X\[1\]: .* in float64, got infinity"),
    "too large": ((np.where(np.arange(4) == 1, 1e200, 1) * X.T).T, ValueError, r"X\[1\]: expected .* summed in float64, .*"),
    "complex": (X + 1j, ValueError, r"X: .*\. Complex data not supported"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_data_names_the_group(wrong: str) -> None:
    data, kind, says = WRONG[wrong]
    pca = lc.BatchedPCA(2)
    with pytest.raises(kind, match=f"^{says}$"):
        pca.fit(data)
    assert vars(pca) == pca.get_params()


def test_wrong_calls() -> None:
    for parameters, says in [
        ({"n_components": 0}, "n_components: expected an integer from 1 to 3, got 0"),
        ({"n_components": 4}, "n_components: expected an integer from 1 to 3, got 4"),
        ({"svd_solver": "randomized"}, "svd_solver: expected one of 'auto', .*, got 'randomized'"),
        ({"backend": "gpu"}, "backend: expected one of auto, .*, got 'gpu'"),
    ]:
        with pytest.raises(ValueError, match=says):
            lc.BatchedPCA(**parameters).fit(X)
    with pytest.raises(TypeError, match="whiten: expected True or False, got 1"):
        lc.BatchedPCA(whiten=1).fit(X)
    with pytest.raises(ValueError, match="this BatchedPCA has no components yet: call fit first"):
        lc.BatchedPCA().transform(X)
    pca = lc.BatchedPCA(2).fit(X)
    with pytest.raises(ValueError, match="X: expected 4 groups, as in fit, got 3"):
        pca.transform(X[:3])
    with pytest.raises(
        ValueError, match=r"X: expected 3 features, got 2 .*; X has 2 features, but BatchedPCA is expecting 3"
    ):
        pca.transform(X[:, :, :2])
    with pytest.raises(ValueError, match=r"Z\[3\]: expected 2 features, got 3 \(shape \(6, 3\)\)$"):
        pca.inverse_transform([*pca.transform(X)[:3], X[3]])
