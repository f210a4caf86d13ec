"""What a PCA of rows in pieces holds between them: copied, saved, shared by threads, and kept when something goes wrong."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits
from test_incremental_pca import assert_fits, data, whole

import latentcore as lc

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
