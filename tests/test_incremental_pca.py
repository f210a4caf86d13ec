"""PCA of rows in pieces: the answer of one fit, whatever the pieces and wherever they come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits

import latentcore as lc

ATTRIBUTES = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_",
              "noise_variance_")  # fmt: skip


def data(rows: int = 300, features: int = 12, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Rows of variances well apart along random axes, about a mean that is not zero."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((features, features)))[0]
    return (rng.standard_normal((rows, features)) * 0.8 ** np.arange(features) @ axes + 5).astype(dtype)


def whole(X: np.ndarray, k: int | None = 5, **options: Any) -> lc.PCA:
    return lc.PCA(k, svd_solver="covariance_eigh", **options).fit(X)


def assert_fits(got: Any, want: Any, near: float = 1e-10) -> None:
    """The same answer to rounding."""
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=near, atol=near, err_msg=name)
    assert got.n_components_ == want.n_components_


# ---- one answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 7, 64, 299, 300])
def test_pieces_of_any_size_give_the_answer_of_one_fit(size: int, dtype: str) -> None:
    X = data(dtype=dtype)
    near = 1e-10 if dtype == "float64" else 1e-5
    model = lc.IncrementalPCA(5)
    for begin in range(0, len(X), size):
        assert model.partial_fit(X[begin : begin + size]) is model
    assert_fits(model, whole(X), near)
    assert_fits(lc.IncrementalPCA(5, batch_size=size).fit(X), whole(X), near)
    assert model.components_.dtype == model.transform(X).dtype == dtype
    assert model.n_samples_seen_ == 300
    assert model.mean_.dtype == model.explained_variance_.dtype == model.var_.dtype == np.float64
    np.testing.assert_allclose(model.var_, X.var(0, dtype=np.float64), rtol=near * 100)
    np.testing.assert_allclose(model.transform(X), whole(X).transform(X), atol=near * 10)
    back = whole(X).inverse_transform(whole(X).transform(X))
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), back, atol=near * 10)
    np.testing.assert_allclose(model.score_samples(X), whole(X).score_samples(X), rtol=near * 100)


@pytest.mark.parametrize("whiten", [False, True])
def test_scikit_learns_incremental_pca(whiten: bool) -> None:
    """Of one batch, which scikit-learn answers exactly; and by the names that it gives."""
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    X = data()
    peer, model = (
        kind(5, whiten=whiten, batch_size=300).fit(X) for kind in (decomposition.IncrementalPCA, lc.IncrementalPCA)
    )
    assert_fits(model, peer)
    np.testing.assert_allclose(model.var_, peer.var_, rtol=1e-10)
    np.testing.assert_allclose(model.transform(X), peer.transform(X), atol=1e-9)
    np.testing.assert_allclose(
        model.inverse_transform(peer.transform(X)), peer.inverse_transform(peer.transform(X)), atol=1e-9
    )
    if not whiten:  # scikit-learn scales components that are not whitened
        np.testing.assert_allclose(model.get_covariance(), peer.get_covariance(), atol=1e-9)
    assert model.n_samples_seen_ == peer.n_samples_seen_
    assert set(lc.IncrementalPCA().get_params()) & set(peer.get_params()) == {"n_components", "whiten", "batch_size"}


@pytest.mark.parametrize("k", [None, 1, 12, 0.9, "mle"], ids=str)
def test_as_many_components_as_pca(k: Any) -> None:
    X = data()
    assert_fits(lc.IncrementalPCA(k).fit(X), whole(X, k))


def test_one_piece_is_the_same_as_pca_in_every_bit() -> None:
    X = data(dtype="float32")
    model, want = lc.IncrementalPCA(5).partial_fit(X), whole(X)
    assert_same_bits(model.components_, want.components_)
    assert_same_bits(model.transform(X), want.transform(X))


def test_fewer_rows_than_features() -> None:
    X = data(8, 12)
    model = lc.IncrementalPCA().fit(X)
    assert model.n_components_ == 8
    np.testing.assert_allclose(model.explained_variance_, whole(X, None).explained_variance_, atol=1e-12)
    assert model.partial_fit(data(3, 12)).n_components_ == 11


def test_components_follow_new_rows() -> None:
    X, model = data(), lc.IncrementalPCA(3)
    model.partial_fit(X[:50])
    assert_fits(model, whole(X[:50], 3))
    before = model.components_
    model.partial_fit(X[50:])
    np.testing.assert_allclose(model.transform(X), whole(X, 3).transform(X), atol=1e-9)
    assert_fits(model, whole(X, 3))
    assert model.components_ is not before
    assert model.components_ is model.components_  # found once
    assert_fits(model.fit(X[:70]), whole(X[:70], 3))


@pytest.mark.parametrize("sizes", [(150, 150), (1, 299), (299, 1)])
def test_merge_joins_what_was_fitted_apart(sizes: tuple[int, int]) -> None:
    X = data()
    a, b = (lc.IncrementalPCA(5).partial_fit(part) for part in np.split(X, [sizes[0]]))
    rows = b.n_samples_seen_
    assert a.merge(b) is a
    assert_fits(a, whole(X))
    assert (a.n_samples_seen_, b.n_samples_seen_) == (300, rows)
    assert_fits(lc.IncrementalPCA(5).merge(a), whole(X))
    assert_fits(a.merge(a), whole(np.concatenate([X, X])))
    assert_fits(a.partial_fit(X), whole(np.concatenate([X, X, X])))


def test_weights_count_rows() -> None:
    X, weights = data(), np.random.default_rng(1).integers(0, 4, 300)
    repeated = np.repeat(X, weights, 0)
    model = lc.IncrementalPCA(5).fit(X, sample_weight=weights)
    assert_fits(model, whole(repeated))
    assert model.n_samples_seen_ == weights.sum()
    pieces = lc.IncrementalPCA(5)
    for begin in range(0, 300, 41):
        pieces.partial_fit(X[begin : begin + 41], sample_weight=weights[begin : begin + 41])
    pieces.partial_fit(X[:3], sample_weight=np.zeros(3))
    assert_fits(pieces, whole(repeated))
    fractions = lc.IncrementalPCA(5).fit(X, sample_weight=weights / 2 + 0.25)
    assert_fits(fractions, lc.PCA(5, svd_solver="covariance_eigh").fit(X, sample_weight=weights / 2 + 0.25))
    assert lc.IncrementalPCA().fit(X, sample_weight=np.full(300, 0.1)).n_samples_seen_ == 300


def test_an_offset_keeps_its_digits() -> None:
    X = (data(2000) - 5 + 1e6).astype(np.float32)
    model, exact = lc.IncrementalPCA(4), whole(X.astype(np.float64), 4)
    for begin in range(0, 2000, 37):
        model.partial_fit(X[begin : begin + 37])
    assert (model.explained_variance_ >= 0).all()
    np.testing.assert_allclose(np.abs((model.components_ * exact.components_).sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(model.explained_variance_, exact.explained_variance_, rtol=1e-5)


# ---- where rows come from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["C", "F", "strided", "big endian", "int16"])
def test_a_memory_mapped_file(kind: str, tmp_path: Path) -> None:
    X = np.rint(data() * 100)
    stored = {"int16": X.astype(np.int16), "big endian": X.astype(">f8")}.get(kind, X)
    if kind == "strided":
        stored = np.repeat(stored, 2, axis=1)
    order: Any = "F" if kind == "F" else "C"
    mapped = np.memmap(tmp_path / "X", stored.dtype, "w+", shape=stored.shape, order=order)
    mapped[...] = stored
    mapped.flush()
    rows = np.memmap(tmp_path / "X", stored.dtype, "r", shape=stored.shape, order=order)
    model = lc.IncrementalPCA(5, batch_size=64).fit(rows[:, ::2] if kind == "strided" else rows)
    assert_fits(model, whole(X))
    assert_same_bits(model.transform(X), lc.IncrementalPCA(5, batch_size=64).fit(X).transform(X))


MEMORY = """
import sys
from pathlib import Path
import numpy as np
import latentcore as lc

def anonymous():
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024

X = np.memmap(sys.argv[1], np.float32, "r").reshape(-1, 64)
lc.IncrementalPCA().fit(X[:5000])
before = peak = anonymous()
def chunks():
    global peak
    for begin in range(0, len(X), 10000):
        yield X[begin : begin + 10000]
        peak = max(peak, anonymous())
lc.IncrementalPCA().fit(chunks())
class Bar:
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def advance(self, rows):
        global peak
        peak = max(peak, anonymous())
import latentcore.models.incremental_pca as module
module.progress_bar = lambda *arguments: Bar()
lc.IncrementalPCA().fit(X, progress=True)
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells how much memory a process holds")
def test_memory_is_bounded(tmp_path: Path) -> None:
    np.zeros((400_000, 64), np.float32).tofile(tmp_path / "X")
    run = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / "X"], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 30  # MB, of a file of 102


def test_an_iterator_of_chunks() -> None:
    X = data()

    def chunks(sizes: list[int]) -> Iterator[Any]:
        begin = 0
        for size in sizes:
            yield X[begin : begin + size].tolist() if size == 7 else X[begin : begin + size]
            begin += size

    assert_fits(lc.IncrementalPCA(5).fit(chunks([1, 7, 100, 192])), whole(X))
    assert_fits(lc.IncrementalPCA(5).fit(iter([X])), whole(X))
    assert_fits(lc.IncrementalPCA(5, batch_size=9).fit(iter([X])), whole(X))


def test_dtypes() -> None:
    X = data()
    mixed = lc.IncrementalPCA(5).partial_fit(X[:100].astype(np.float32)).partial_fit(X[100:])
    assert mixed.components_.dtype == np.float32  # that of the first piece
    assert_fits(mixed, whole(X), 1e-5)
    assert lc.IncrementalPCA().fit(np.rint(X).astype(np.uint8)).components_.dtype == np.float64


def test_progress(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    X = data()
    lc.IncrementalPCA(batch_size=100).fit(X, progress=True)
    assert "fit 100%" in capsys.readouterr().err
    lc.IncrementalPCA().fit(iter([X, X]), progress=True)
    assert "fit 600 rows" in capsys.readouterr().err
    lc.IncrementalPCA().fit(X)
    assert capsys.readouterr() == ("", "")
