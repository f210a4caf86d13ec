"""Principal component analysis of rows that come in pieces, or of more than memory holds."""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..backends import Backend, get_backend
from ..checks import as_array, check_array, check_bool, check_int, check_shape, check_weights, kept_dtype, not_fitted, shown
from ..progress import progress_bar
from .files import check_tensor
from .moments import Moments
from .pca import PCA, check_count
from .spectrum import of_moments

_CHUNK = 2**22  # bytes of data that are checked and taken in at a time: they stay in the cache between the two
_LEAST, _MOST = 1024, 65536  # rows of a chunk
_LARGE = {"float32": 1e18, "float64": 1e150}  # sums of squares of numbers below are finite in that dtype

Chunk = tuple[np.ndarray, np.ndarray | None]


class _Solved:
    """An attribute that the rows determine: read after they changed, it is found anew."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, kind: type) -> Any:
        if model is None:
            return self
        model._check_fitted()
        return vars(model)[self.name]

    def __set__(self, model: Any, value: Any) -> None:
        vars(model)[self.name] = value


class IncrementalPCA(PCA):
    """Principal component analysis from moments that merge: the sum of weights, the mean and the Gram matrix of all rows
    so far (Chan, Golub & LeVeque 1983), in float64. Rows may come in pieces of any size, one row too, and give the same
    answer, to rounding, as a fit to all of them at once. It keeps n_features x n_features numbers of 8 bytes and holds six
    times that while it finds the components; more features than there is memory for are refused.

    n_components and whiten as for PCA; None takes min(rows so far, n_features) components. batch_size: the rows that ``fit``
    takes in at a time; None for about 4 MB. backend: as for PCA.

    Fitted: all that PCA has, var_ (n_features,), the variances of the features, and n_samples_seen_ (rows, or the sum of
    their weights). components_ and what goes with them are computed when they are first asked for after new rows came, so
    that small pieces are cheap. Components have the dtype of the first piece.

    Several threads may call all methods: fitting and merging take turns, and what is read belongs to the pieces that were
    whole when the call began.
    """

    _lacks = ("components", "fit or partial_fit")

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        backend: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.backend = backend

    components_: Any = _Solved()
    mean_: Any = _Solved()
    explained_variance_: Any = _Solved()
    explained_variance_ratio_: Any = _Solved()
    singular_values_: Any = _Solved()
    noise_variance_: Any = _Solved()
    n_components_: Any = _Solved()
    n_samples_: Any = _Solved()

    @property
    def n_samples_seen_(self) -> int:
        """How many rows were taken in; the sum of their weights, rounded down, where that is more."""
        return self._known().rows

    @property
    def var_(self) -> np.ndarray:
        """The variance of each feature over all rows, (n_features,) float64, divided by their number."""
        moments = self._known()
        with self._turn():
            count, _, gram = moments.get()
        if not count:
            raise not_fitted(self, *self._lacks)
        return gram.diagonal() / count

    # ---- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, progress: bool = False) -> IncrementalPCA:
        """Fits the model afresh to X: rows (rows, n_features), a memory-mapped array (never read into memory as a whole), or
        an iterator of arrays of rows; y is ignored. sample_weight: (rows,) numbers of at least 0, as for PCA; with an
        iterator of chunks, None. progress: show a bar. Returns self.

        Ctrl-C keeps the rows that were taken in, n_samples_seen_ of them, and raises KeyboardInterrupt; any other error
        leaves the model as it was: TypeError, ValueError, MemoryError for more features than there is memory for."""
        chunks, total = self._chunks(X, sample_weight)
        moments, dtype = None, ""
        with self._turn(), progress_bar(check_bool(progress, "progress"), "fit", total) as bar:
            try:
                for rows, weight in chunks:
                    if moments is None:
                        moments, dtype = Moments(rows.shape[1], get_backend(self.backend, rows)), str(rows.dtype)
                    moments.add(rows, weight)
                    bar.advance(len(rows))
            except KeyboardInterrupt:
                if moments is not None and moments.rows:
                    self._become(moments, dtype)
                raise
            if moments is None:
                raise ValueError("X: expected chunks of rows, got an iterator without any")
            before = dict(vars(self))
            try:
                self._become(moments, dtype)
                check_count(moments.count, sample_weight is not None)
                self._solve_anew()
            except BaseException:
                vars(self).clear()
                vars(self).update(before)
                raise
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> IncrementalPCA:
        """Takes in more rows X (rows, n_features), any number of them; y is ignored. sample_weight: (rows,) numbers of at
        least 0. Returns self. Ctrl-C keeps the rows that were taken in; any other error leaves the model as it was:
        TypeError, ValueError, MemoryError."""
        with self._turn():
            known = vars(self).get("_moments")
            chunks, total = self._chunks(X, sample_weight, known)
            fresh, dtype = None, ""
            try:
                for rows, weight in chunks:
                    if known is not None and len(rows) == total and max(-rows.min(), rows.max()) < _LARGE[str(rows.dtype)]:
                        self._stale = True
                        known.add(rows, weight)
                        return self
                    if fresh is None:
                        fresh, dtype = Moments(rows.shape[1], get_backend(self.backend, rows)), str(rows.dtype)
                    fresh.add(rows, weight)
            except KeyboardInterrupt:
                self._take(fresh, dtype)
                raise
            self._take(fresh, dtype)
        return self

    def merge(self, other: IncrementalPCA) -> IncrementalPCA:
        """Takes in all rows that another model has seen, as if they had come here; the other stays as it is. Returns self.
        Raises TypeError for what is no IncrementalPCA, NotFittedError for one without rows, ValueError for one of another
        number of features."""
        if not isinstance(other, IncrementalPCA):
            raise TypeError(f"other: expected an IncrementalPCA, got {shown(other)}")
        theirs = other._known()
        with other._turn():
            fresh, dtype = Moments(theirs.features, theirs.backend), other._rows_dtype
            fresh.merge(theirs)
        with self._turn():
            known = vars(self).get("_moments")
            if known is not None and known.features != fresh.features:
                raise ValueError(f"other: expected {known.features} features, as here, got {fresh.features}")
            self._take(fresh, dtype)
        return self

    def _chunks(self, X: Any, sample_weight: Any, known: Moments | None = None) -> tuple[Iterator[Chunk], int | None]:
        """Checked pieces of X and their weights, and how many rows they will be, if that is known. known: all so far."""
        size = None if self.batch_size is None else check_int(self.batch_size, "batch_size", 1)
        name, features = type(self).__name__, known.features if known else None
        engines = [known.backend] if known else []

        def taken(value: Any, what: str) -> np.ndarray:
            if not engines:  # the first piece decides
                engines.append(get_backend(self.backend, value))
            return as_array(value, what, engines[0].device)

        def pieces(array: np.ndarray, what: str, weights: np.ndarray | None, width: int | None) -> Iterator[Chunk]:
            check_shape(array, what, features=width, estimator=name)
            dtype = kept_dtype(array)
            step = size or min(max(_LEAST, _CHUNK // (array.shape[1] * np.dtype(dtype).itemsize)), _MOST)
            self._check_components(array.shape[1], True)
            for begin in range(0, len(array), step):
                rows = slice(begin, begin + step)
                yield (
                    check_array(array[rows], what, dtype, device=engines[0].device),
                    None if weights is None else weights[rows],
                )

        if hasattr(X, "__next__"):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight: expected None with an iterator of chunks; partial_fit takes weights of a chunk"
                )

            def stream() -> Iterator[Chunk]:
                width = features
                for i, chunk in enumerate(X):
                    for piece in pieces(taken(chunk, f"X[{i}]"), f"X[{i}]", None, width):
                        yield piece
                        width = piece[0].shape[1]

            return stream(), None
        array = taken(X, "X")
        check_shape(array, "X", features=features, estimator=name)
        weights = None if sample_weight is None else check_weights(sample_weight, len(array), device=engines[0].device)
        return pieces(array, "X", weights, features), len(array)

    # ---- functions, in turn with fitting ---------------------------------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """As ``PCA.transform``."""
        with self._turn():
            return super().transform(X)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """As ``PCA.inverse_transform``."""
        with self._turn():
            return super().inverse_transform(Z)

    def score_samples(self, X: Any) -> np.ndarray:
        """As ``PCA.score_samples``."""
        with self._turn():
            return super().score_samples(X)

    # ---- state -----------------------------------------------------------------------------------------------------

    def _turn(self) -> Any:
        return vars(self).setdefault("_lock", threading.RLock())

    def _known(self) -> Moments:
        moments: Moments | None = vars(self).get("_moments")
        if moments is None:
            raise not_fitted(self, *self._lacks)
        return moments

    def _become(self, moments: Moments, dtype: str) -> None:
        """Puts these rows in the place of all so far."""
        self._moments, self._rows_dtype, self.n_features_in_, self._stale = moments, dtype, moments.features, True

    def _take(self, fresh: Moments | None, dtype: str) -> None:
        """Adds these rows to all so far. Raises ValueError for numbers too large."""
        if fresh is not None and not fresh.finite:
            raise ValueError("X: expected numbers whose squares have a finite sum in their dtype, got larger ones")
        known = vars(self).get("_moments")
        if known is None and fresh is not None:
            self._become(fresh, dtype)
        elif known is not None and fresh is not None:
            self._stale = True
            known.merge(fresh)

    def _check_fitted(self) -> None:
        moments = self._known()
        with self._turn():
            if self._stale:
                k = self.n_components
                least = max(2, int(k)) if isinstance(k, numbers.Integral) else 2
                if moments.rows < least or moments.count <= 1:
                    raise not_fitted(
                        self, "components", f"partial_fit with {least} rows or more, of which {moments.rows} came,"
                    )
                self._solve_anew()

    def _solve_anew(self) -> None:
        """Finds the components of all rows so far."""
        self._stale = False  # setting the attributes reads some of them
        try:
            moments, engine = self._moments, self._moments.backend
            self._set_spectrum(of_moments(*moments.get(), moments.rows, engine), self._rows_dtype, engine)
        except BaseException:
            self._stale = True
            raise

    def _move(self, backend: Backend) -> None:
        with self._turn():
            known: Moments | None = vars(self).get("_moments")
            if known is not None and self._stale:
                moments = Moments(known.features, backend)
                moments.put(*known.get(), known.rows)
                self._become(moments, self._rows_dtype)
            elif known is not None:
                super()._move(backend)

    def __sklearn_is_fitted__(self) -> bool:
        return "_moments" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        with self._turn():
            m = vars(self).get("_moments")
            fitted = m and (m.backend.name, self._rows_dtype, m.features, (*m.get(), m.rows))
        return {"params": self.get_params(), "fitted": fitted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["params"])
        if state["fitted"]:
            backend, dtype, features, moments = state["fitted"]
            self._become(Moments(features, get_backend(backend)), dtype)
            self._moments.put(*moments)

    def _describe(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        with self._turn():
            header, arrays = super()._describe()
            count, _, gram = self._moments.get()
        return header, {**arrays, "count": np.array([count]), "gram": gram}

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
        for name in ("count", "gram"):
            if name not in arrays:
                raise ValueError(f"tensors: {name!r} is missing")
        count, gram = arrays["count"], arrays["gram"]
        check_tensor("count", count, "float64", (1,))
        if gram.ndim != 2 or not gram.size:
            raise ValueError(f"gram: expected a square matrix, got shape {gram.shape}")
        check_tensor("gram", gram, "float64", gram.shape[:1] * 2)
        if not (1 < count[0] < math.inf and np.isfinite(gram).all() and gram.diagonal().min() >= 0):
            raise ValueError("gram: expected finite numbers, those of the diagonal at least 0, of more than one row")
        self._become(Moments(len(gram), backend), "")
        self._stale = False
        super()._restore(header, {k: a for k, a in arrays.items() if k not in ("count", "gram")}, backend)
        if self.n_features_in_ != len(gram):
            raise ValueError(f"gram: expected shape ({self.n_features_in_}, {self.n_features_in_}), got {gram.shape}")
        self._moments.put(float(count[0]), self.mean_, gram, self.n_samples_)
        self._rows_dtype = self._dtype
