"""Many principal component analyses at once: one for each group of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..backends import Backend, Runner, get_backend
from ..checks import as_array, check_array, check_bool, check_int, check_option, kept_dtype, not_fitted, shown
from ..linalg import eigh, svd
from ..ops import Clock
from ..plan import Plan
from .estimator import Estimator

SOLVERS = ("auto", "covariance_eigh", "full")
_SLICE = 2**26  # bytes of Gram matrices, or of centred rows, that are held at a time


class BatchedPCA(Estimator):
    """A principal component analysis of each group of rows, all of one width: thousands in one call. The groups are an
    array (batch, n, d), or a sequence of arrays (n_i, d); what is given as a sequence comes back as a list.

    n_components: k, the same for all groups, up to d; None: as many as the largest group determines, min(n, d).
    whiten: codes of unit variance. svd_solver: "covariance_eigh" (mean and Gram matrix of a group in one pass, then
    ``lc.eigh``), "full" (``lc.svd`` of the centred rows), or "auto": the first for groups of at least d rows, the second
    for the others, each group by its own shape, so that its bits do not depend on its companions. backend: as for
    PCA.

    Fitted, by group: ``components_`` (batch, k, d), in the dtype of the data (integers become float64), orthonormal, the
    largest entry of each positive; in float64 ``mean_`` (batch, d), ``explained_variance_``, ``explained_variance_ratio_``
    and ``singular_values_`` (batch, k), and ``noise_variance_`` (batch,), all by the formulas of scikit-learn's PCA;
    ``n_samples_`` (batch,), ``n_components_``, ``n_features_in_``.

    A group of n rows has at most n - 1 components with variance. Those beyond have a variance of exactly 0 and complete the
    orthonormal basis; their whitened codes are 0. So a group of one row has its row as mean and no variance at all, and
    ratios of 0.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        svd_solver: str = "auto",
        backend: str = "auto",
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.backend = backend

    def fit(self, X: Any, y: Any = None) -> BatchedPCA:
        """Fits a PCA to each group of X, (batch, n, d) or a sequence of (n_i, d); y is ignored. Returns self. Raises
        TypeError for what is no array of real numbers; ValueError for NaN, infinity, groups of different widths, and a
        group without rows, naming the group."""
        check_bool(self.whiten, "whiten")
        solver = check_option(self.svd_solver, "svd_solver", SOLVERS)
        engine = self._engine(X)
        groups = _Groups(X, "X", engine)
        rows, lengths, d = groups.rows, groups.lengths, groups.rows.shape[1]
        if not lengths.all():
            empty = int(lengths.argmin())
            raise ValueError(f"X[{empty}]: expected at least one row, got shape (0, {d})")
        if self.n_components is None:
            k = min(int(lengths.max()), d)
        else:
            k = check_int(self.n_components, "n_components", 1, d)

        mean, values = np.empty((len(lengths), d)), np.zeros((len(lengths), max(k, d)))
        components = np.empty((len(lengths), k, d), rows.dtype)
        by_svd = np.full(len(lengths), solver == "full") if solver != "auto" else lengths < d
        for at, found in self._solutions(groups, by_svd, k, engine):
            mean[at], squares, components[at] = found
            if not np.isfinite(squares).all():
                wrong = at[np.isfinite(squares).all(1).argmin()]
                raise ValueError(f"X[{wrong}]: expected numbers whose squares can be summed in float64, got larger ones")
            values[at, : squares.shape[1]] = squares
        free = lengths - 1  # a group determines so many components
        values[np.arange(values.shape[1]) >= np.minimum(free, d)[:, None]] = 0
        variance = np.maximum(values, 0) / np.maximum(free, 1)[:, None]
        total, left = variance.sum(1), np.minimum(lengths, d) - k
        self.mean_, self.components_ = mean, components
        self.explained_variance_ = variance[:, :k].copy()
        self.explained_variance_ratio_ = np.divide(variance[:, :k], total[:, None], out=np.zeros_like(variance[:, :k]),
                                                   where=total[:, None] > 0)  # fmt: skip
        self.singular_values_ = np.sqrt(np.maximum(values[:, :k], 0))
        self.noise_variance_ = variance[:, k:].sum(1) / np.maximum(left, 1)
        self.n_samples_, self.n_components_, self.n_features_in_ = lengths, k, d
        return self

    def _solutions(
        self, groups: _Groups, by_svd: np.ndarray, k: int, engine: Backend
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """Group numbers, and their means, squared singular values (descending) and first k components."""
        rows, d, home = groups.rows, groups.rows.shape[1], engine.home
        xp = np if type(rows) is np.ndarray else engine.xp
        plan = Plan("covariance", str(rows.dtype))
        for name in ("begin", "end"):
            plan.input(name, "rows", dtype="uint32")
        plan.output("mean", "rows", d, dtype="float64")
        plan.output("gram", "rows", d, d, dtype="float64")
        plan.input("x", len(rows), d)
        plan.call("covariance_forward", **{name: name for name in ("mean", "gram", "x", "begin", "end")})
        run = Runner(engine, {})
        for at in _slices(np.flatnonzero(~by_svd), 8 * d * d):
            inputs = {"x": rows, "begin": groups.begin[at].astype(np.uint32), "end": groups.end[at].astype(np.uint32)}
            found = run(plan, inputs, len(at), Clock())
            w, v = eigh(found["gram"], validate=False, backend=engine.name)
            yield at, (home(found["mean"]), home(w)[:, ::-1], home(v)[:, :, ::-1][:, :, :k].transpose(0, 2, 1))
        for n in np.unique(groups.lengths[by_svd]):
            for at in _slices(np.flatnonzero(by_svd & (groups.lengths == n)), 8 * d * max(n, k)):
                x = rows[xp.asarray(groups.begin[at][:, None] + np.arange(n))].astype(np.float64)
                mean = x.mean(1)
                centred = xp.zeros((len(at), max(n, k), d))  # rows of zeros complete the basis
                xp.subtract(x, mean[:, None], out=centred[:, :n])
                _, s, vt = svd(centred, validate=False, backend=engine.name)
                yield at, (home(mean), home(s * s), home(vt[:, :k]))

    # ---- functions -------------------------------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """The codes of each group of X: (batch, n, k), or a list of (n_i, k), in the dtype of the fit. A row's code does
        not depend on the others. Raises NotFittedError, TypeError, ValueError."""
        self._check_fitted()
        return self._apply(X, "X", self.n_features_in_, self.mean_, self._scaled(-0.5), None)

    def inverse_transform(self, Z: Any) -> Any:
        """The data with the codes Z, (batch, n, k) or a sequence of (n_i, k): (batch, n, d), or a list of (n_i, d). Raises
        NotFittedError, TypeError, ValueError."""
        self._check_fitted()
        w = np.ascontiguousarray(self._scaled(0.5).transpose(0, 2, 1))
        return self._apply(Z, "Z", self.n_components_, None, w, self.mean_)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """``fit``, and the codes of X."""
        return self.fit(X).transform(X)

    def _scaled(self, power: float) -> np.ndarray:
        """The components, times a power of their variances if codes are whitened; 0 where there is no variance."""
        if not self.whiten:
            return self.components_
        variance = self.explained_variance_
        scale = np.power(variance, power, out=np.zeros_like(variance), where=variance > 0)
        scaled: np.ndarray = self.components_ * scale[:, :, None]
        return scaled.astype(self.components_.dtype)

    def _apply(
        self, value: Any, name: str, features: int, before: np.ndarray | None, w: np.ndarray, after: np.ndarray | None
    ) -> Any:
        """w (x - before) + after for the rows of each group."""
        batch, out, _ = w.shape
        engine = self._engine(value)
        groups = _Groups(value, name, engine, str(w.dtype), features, type(self).__name__ if name == "X" else None)
        if len(groups.lengths) != batch:
            raise ValueError(f"{name}: expected {batch} groups, as in fit, got {len(groups.lengths)}")
        plan = Plan("affine", str(w.dtype))
        plan.output("y", "rows", out)
        inputs = {"x": groups.rows, "group": np.repeat(np.arange(batch, dtype=np.uint32), groups.lengths), "w": w}
        plan.input("x", "rows", features)
        plan.input("group", "rows", dtype="uint32")
        plan.input("w", *w.shape)
        for argument, vectors in (("before", before), ("after", after)):
            if vectors is not None:
                plan.input(argument, *vectors.shape, dtype="float64")
                inputs[argument] = vectors
        plan.call("affine_forward", y="y", **{argument: argument for argument in inputs})
        y = Runner(engine, {})(plan, inputs, len(groups.rows), Clock())["y"]
        return groups.like(y)

    def _engine(self, groups: Any) -> Backend:
        return get_backend(self.backend, *(groups if _is_list(groups) else (groups,)))

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise not_fitted(self, "components", "fit")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class _Groups:
    """Groups of rows, one after another: rows (all, features), and the rows [begin, end) of each group."""

    def __init__(
        self,
        value: Any,
        name: str,
        engine: Backend,
        dtype: str | None = None,
        features: int | None = None,
        estimator: str | None = None,
    ) -> None:
        """dtype: None keeps float32 and makes all else float64. Raises TypeError or ValueError, naming the group."""
        self.listed, device = _is_list(value), engine.device
        if self.listed:
            arrays = [
                each if type(each) is np.ndarray else as_array(each, f"{name}[{i}]", device) for i, each in enumerate(value)
            ]
            if any(type(each) is not np.ndarray for each in arrays):
                arrays = [engine.keep(each) for each in arrays]
            width = features if features is not None or not arrays else arrays[0].shape[-1]
            for i, array in enumerate(arrays):
                if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "biuf":
                    check_array(
                        array, f"{name}[{i}]", "float64", features=width, estimator=estimator, empty=True, device=device
                    )
        else:
            stack = as_array(value, name, device)
            if stack.ndim != 3:
                raise ValueError(
                    f"{name}: expected an array (batch, rows, features) or a sequence of arrays (rows, features), got shape "
                    f"{stack.shape}"
                )
            arrays = [stack] if len(stack) else []
        if not arrays:
            raise ValueError(f"{name}: expected at least one group, got {shown(value)}")
        if self.listed:
            self.lengths = np.array([len(array) for array in arrays])
            rows = (np if type(arrays[0]) is np.ndarray else engine.xp).concatenate(arrays)
        else:
            self.lengths = np.full(stack.shape[0], stack.shape[1])
            rows = stack.reshape(stack.shape[0] * stack.shape[1], stack.shape[2])
        dtype = dtype or kept_dtype(rows)
        self.end = np.cumsum(self.lengths)
        self.begin = self.end - self.lengths
        self.rows = check_array(
            rows, name, dtype, features=features, estimator=estimator, validate=False, empty=True, device=device
        )
        if len(rows) >= 2**32:
            raise ValueError(f"{name}: expected fewer than 2**32 rows in all, got {len(rows)}")
        if rows.size and not np.isfinite([float(self.rows.min()), float(self.rows.max())]).all():
            here = engine.home(self.rows)
            wrong = int(np.searchsorted(self.end, np.isfinite(here).all(1).argmin(), "right"))
            check_array(here[self.begin[wrong] : self.end[wrong]], f"{name}[{wrong}]", dtype)

    def like(self, y: np.ndarray) -> Any:
        """Results (all rows, width) in the form that the groups came in."""
        if self.listed:
            return [y[begin:end] for begin, end in zip(self.begin, self.end)]
        return y.reshape(len(self.lengths), self.lengths[0], y.shape[1])


def _is_list(groups: Any) -> bool:
    return isinstance(groups, Sequence) and not isinstance(groups, (str, bytes))


def _slices(groups: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Group numbers, so many at a time that `size` bytes for each are within bounds."""
    step = max(1, _SLICE // max(size, 1))
    for begin in range(0, len(groups), step):
        yield groups[begin : begin + step]
