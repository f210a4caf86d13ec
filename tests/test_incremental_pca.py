"""PCA of rows in pieces: the answer of one fit, whatever the pieces; and what is kept and lost when something goes wrong."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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


# ---- state -------------------------------------------------------------------------------------------------------------

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", [*COPIES, "file"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_and_files_go_on(way: str, dtype: str, tmp_path: Path) -> None:
    X = data(dtype=dtype)
    model = lc.IncrementalPCA(4, whiten=True, batch_size=50).partial_fit(X[:100])
    if way == "file":
        lc.save(model, tmp_path / "pca")
        twin: Any = lc.load(tmp_path / "pca")
    else:
        twin = COPIES[way](model)
    assert type(twin) is lc.IncrementalPCA
    assert twin.get_params() == model.get_params()
    assert_same_bits(twin.transform(X), model.transform(X))
    assert twin.n_samples_seen_ == 100
    twin.partial_fit(X[100:])
    assert model.n_samples_seen_ == 100
    assert_same_bits(model.partial_fit(X[100:]).transform(X), twin.transform(X))
    assert twin.transform(X).dtype == dtype


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_single_row(way: str) -> None:
    X = data()
    twin = COPIES[way](lc.IncrementalPCA(4).partial_fit(X[:1]))
    assert_fits(twin.partial_fit(X[1:]), whole(X, 4))
    assert COPIES[way](lc.IncrementalPCA(4)).get_params() == lc.IncrementalPCA(4).get_params()


@pytest.mark.parametrize("function", ["transform", "inverse_transform", "score_samples"])
def test_compiles(function: str) -> None:
    X = data(dtype="float32")
    model = lc.IncrementalPCA(4).partial_fit(X[:200]).partial_fit(X[200:])
    compiled = lc.compile(model, function, batch=7)
    given = model.transform(X[:7]) if function == "inverse_transform" else X[:7]
    want = getattr(model, function)(given)
    model.partial_fit(X)
    assert_same_bits(compiled(given), want)  # a snapshot


def test_backends_agree() -> None:
    X = data()
    model = lc.IncrementalPCA(5, backend="reference").partial_fit(X[:9]).partial_fit(X[9:])
    assert_fits(model, whole(X))


def test_threads_take_turns() -> None:
    X = data(800)
    model, errors = lc.IncrementalPCA(5).partial_fit(X[:10]), []

    def feed(begin: int) -> None:
        for first in range(begin, begin + 190, 10):
            model.partial_fit(X[first : first + 10])

    def read() -> None:
        try:
            for _ in range(40):
                assert model.transform(X[:3]).shape == (3, 5)
                assert model.components_.shape == (5, 12)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=feed, args=(begin,)) for begin in (10, 200, 390, 580)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_fits(model, whole(X[:770]))


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


def moments(model: Any) -> tuple[bytes, ...]:
    count, mean, gram = model._moments.get()
    return str(count).encode(), mean.tobytes(), gram.tobytes()


X = data(20, 3)
WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "features": (lambda m: m.partial_fit(X[:, :2]), ValueError, "X: .*; X has 2 features, but Incr.*PCA is expecting 3 .*"),
    "no rows": (lambda m: m.partial_fit(X[:0]), ValueError, r"X: .*, got 0 sample\(s\) .*"),
    "NaN": (lambda m: m.partial_fit(X * np.nan), ValueError, "X: expected finite numbers in float64, got NaN"),
    "a late NaN": (
        lambda m: m.set_params(batch_size=5).partial_fit(np.where(np.arange(20)[:, None] == 12, np.nan, X)), ValueError,
        "X: expected finite numbers in float64, got NaN",
    ),
    "large": (lambda m: m.partial_fit(X * 1e200), ValueError, "X: expected numbers whose squares have a finite sum .*"),
    "large in fit": (lambda m: m.fit(X * 1e200), ValueError, "X: expected numbers whose squares are finite, .*"),
    "one row": (lambda m: m.fit(X[:1]), ValueError, r"X: expected two rows or more, got 1 sample"),
    "too few rows": (lambda m: m.set_params(n_components=3).fit(X[:2]), ValueError, "n_components: .* from 1 to 2, got 3"),
    "components": (lambda m: m.set_params(n_components=4).partial_fit(X), ValueError, "n_components: .* from 1 to 3, got 4"),
    "components fit": (lambda m: m.set_params(n_components=4).fit(X), ValueError, "n_components: .* from 1 to 3, got 4"),
    "weights shape": (lambda m: m.partial_fit(X, sample_weight=[1]), ValueError, r"sample_weight: .* \(20,\), got \(1,\)"),
    "weights negative": (lambda m: m.fit(X, None, [-1] * 20), ValueError, "sample_weight: expected .* at least 0, got -1"),
    "weights zero": (lambda m: m.fit(X, None, [0] * 20), ValueError, "sample_weight: .*, not all zero, .* got a sum of 0"),
    "weights of chunks": (lambda m: m.fit(iter([X]), None, [1] * 20), ValueError, "sample_weight: expected None .*"),
    "no chunks": (lambda m: m.fit(iter([])), ValueError, "X: expected chunks of rows, got an iterator without any"),
    "a chunk": (lambda m: m.fit(iter([X, X, X[:, :2]])), ValueError, r"X\[2\]: expected 3 features, got 2 .*"),
    "a text among chunks": (lambda m: m.fit(iter([X, "X"])), TypeError, r"X\[1\]: expected a dense array .*, got str"),
    "chunks fail": (lambda m: m.fit(X if i < 2 else 1 / 0 for i in range(3)), ZeroDivisionError, "division by zero"),
    "batch_size": (lambda m: m.set_params(batch_size=0).fit(X), ValueError, "batch_size: expected .* at least 1, got 0"),
    "progress": (lambda m: m.fit(X, progress=3), TypeError, "progress: expected True or False, got 3"),
    "whiten": (lambda m: m.set_params(whiten=3).fit(X), TypeError, "whiten: expected True or False, got 3"),
    "backend": (lambda m: m.set_params(backend="gpu").fit(X), ValueError, "backend: expected one of .*, got 'gpu'"),
    "merge what": (lambda m: m.merge(lc.PCA()), TypeError, r"other: expected an IncrementalPCA, got PCA\(\)"),
    "merge nothing": (lambda m: m.merge(lc.IncrementalPCA()), ValueError, "this IncrementalPCA has no components yet: .*"),
    "merge features": (
        lambda m: m.merge(lc.IncrementalPCA().fit(X[:, :2])), ValueError, "other: expected 3 features, as here, got 2"
    ),
    "wide": (lambda m: m.fit(np.zeros((2, 10**6), np.float32)), MemoryError, "X: 1000000 features take .* of 8e.03 GB.*"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_an_error_leaves_the_model_as_it_was(wrong: str) -> None:
    call, kind, says = WRONG[wrong]
    model = lc.IncrementalPCA().partial_fit(X[:11])
    before, codes = moments(model), model.transform(X)
    with pytest.raises(kind, match=f"^{says}$"):
        call(model)
    assert moments(model) == before
    assert_same_bits(model.transform(X), codes)
    assert model.n_samples_seen_ == 11
    assert_fits(model.set_params(**lc.IncrementalPCA().get_params()).partial_fit(X[11:]), whole(X, None))


def test_too_few_rows_are_not_fitted() -> None:
    model = lc.IncrementalPCA(3)
    for read in ("components_", "n_samples_seen_", "var_"):
        assert not hasattr(model, read)
    with pytest.raises(ValueError, match="this IncrementalPCA has no components yet: call fit or partial_fit first"):
        model.transform(X)
    model.partial_fit(X[:1])
    assert not hasattr(model, "components_")
    np.testing.assert_array_equal(model.var_, 0)
    with pytest.raises(
        ValueError, match="has no components yet: call partial_fit with 3 rows or more, of which 1 came, first"
    ):
        model.transform(X)
    assert model.partial_fit(X[1:3]).components_.shape == (3, 3)


@pytest.mark.parametrize("kind", ["iterator", "array"])
def test_ctrl_c_keeps_what_was_taken_in(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X = data()

    def chunks() -> Iterator[np.ndarray]:
        yield X[:100]
        yield X[100:150]
        os.kill(os.getpid(), signal.SIGINT)
        yield X[150:]

    model = lc.IncrementalPCA(5, batch_size=50)
    if kind == "iterator":
        with pytest.raises(KeyboardInterrupt):
            model.fit(chunks())
    else:
        check, calls = lc.models.incremental_pca.check_array, [0]

        def interrupted(*arguments: Any, **options: Any) -> np.ndarray:
            calls[0] += 1
            if calls[0] == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return check(*arguments, **options)

        monkeypatch.setattr(lc.models.incremental_pca, "check_array", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X)
        monkeypatch.undo()
    assert model.n_samples_seen_ == 150
    assert_fits(model, whole(X[:150]))
    assert_fits(model.partial_fit(X[150:]), whole(X))
    untouched = moments(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(chunk for chunk in [KeyboardInterrupt] if (_ for _ in ()).throw(chunk))
    assert moments(model) == untouched


@pytest.mark.parametrize("damage", ["count", "gram", "shape", "empty", "flat", "negative", "missing"])
def test_a_file_that_cannot_be(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = lc.IncrementalPCA(2).fit(X)
    header, arrays = model._describe()
    wrong: dict[str, Any] = {
        "count": {"count": np.array([1.0])},
        "gram": {"gram": arrays["gram"] * np.nan},
        "shape": {"gram": np.eye(4)},
        "empty": {"gram": np.zeros((0, 0))},
        "flat": {"gram": np.ones(3)},
        "negative": {"gram": -arrays["gram"]},
        "missing": {"gram": None},
    }
    arrays = {name: a for name, a in {**arrays, **wrong[damage]}.items() if a is not None}
    monkeypatch.setattr(lc.IncrementalPCA, "_describe", lambda self: (header, arrays))
    lc.save(model, tmp_path / "m")
    with pytest.raises(ValueError, match=r"not a sound model file: (count|gram|tensors: 'gram'): .*|.*'gram' is missing"):
        lc.load(tmp_path / "m")
