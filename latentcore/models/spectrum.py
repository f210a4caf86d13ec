"""Principal axes and their variances, by the covariance, by the singular values of the data, or by random projections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..backends import Backend
from ..linalg import eigh, svd
from ..ops import Clock
from ..ops.random import STREAMS
from ..ops.special import signs
from ..plan import Plan
from .moments import Moments

_SLICE = 2**20  # elements that are worked on at a time
_EPSILON = float(np.finfo(np.float64).eps)
_SETTLED, _MOST_POWERS = 1e-7, 30  # of random projections: a float32 sum errs by 5e-8


class Spectrum:
    """The variances of rows along their principal axes, descending, in float64.

    count: the sum of weights. rows: how many rows that stands for. mean: (f,). variance: those that were computed, never
    negative. total: the variance in all directions. axes: makes the first k axes, orthonormal rows (k, f), the largest
    entry of each positive. least: a variance up to it is rounding.
    """

    def __init__(
        self,
        count: float,
        rows: int,
        mean: np.ndarray,
        variance: np.ndarray,
        total: float,
        axes: Callable[[int], np.ndarray],
        least: float = 0.0,
    ) -> None:
        self.count, self.rows, self.mean = count, rows, mean
        self.variance, self.total, self.axes, self.least = variance, total, axes, least

    def first(self, k: int) -> np.ndarray:
        """The first k axes (k, f). Those without variance, which rounding alone would choose, complete the basis in the way
        that the others determine."""
        known = int(np.count_nonzero(self.variance[:k] > self.least))
        axes = np.zeros((k, len(self.mean)))
        axes[:known] = self.axes(known)
        return completed(axes, known)

    @property
    def rank(self) -> int:
        """How many variances there are in all."""
        return min(self.rows, len(self.mean))

    def noise(self, k: int) -> float:
        """The mean of the variances behind the first k (Tipping & Bishop 1999, eq. 8); 0 where there are none."""
        if k == self.rank:
            return 0.0
        rest = float(self.variance[k:].sum())
        if len(self.variance) < self.rank:
            rest = max(self.total - float(self.variance[:k].sum()), 0.0)
        return rest / (self.rank - k)


def completed(axes: np.ndarray, known: int) -> np.ndarray:
    """Orthonormal rows (k, f), all after the first `known` chosen anew: from the unit vector that the rows before them
    reach least (the first of such), what it has outside them, its largest entry positive."""
    if known == len(axes):
        return axes
    axes = axes.copy()
    outside = 1 - np.einsum("kf,kf->f", axes[:known], axes[:known])
    for i in range(known, len(axes)):
        row = np.zeros(axes.shape[1])
        row[(outside >= outside.max() * (1 - 1e-8)).argmax()] = 1
        for _ in range(2):  # the second time takes away what rounding left
            row -= (axes[:i] @ row) @ axes[:i]
        axes[i] = row / np.linalg.norm(row)
        outside -= axes[i] ** 2
    return _oriented(axes)


class Rows:
    """Rows to be analysed: X (n, f) float32 or float64, weighted by positive numbers or None. A row of weight 3 stands for
    three rows. They lie where the backend computes, as does what is made of them; xp: the module of their arrays."""

    def __init__(self, X: np.ndarray, weight: np.ndarray | None, backend: Backend) -> None:
        self.backend, self.xp = backend, backend.xp
        self.X, self.weight = backend.keep(X), None if weight is None else backend.keep(weight)
        self.count = float(len(X) if weight is None else weight.sum())
        self.n = max(len(X), int(self.count))
        self.f = X.shape[1]

    def mean(self) -> np.ndarray:
        """The weighted mean, in float64."""
        total = self.xp.zeros(self.f)
        for rows in _slices(len(self.X), self.f):
            piece = self.X[rows].astype(np.float64)
            total += piece.sum(0) if self.weight is None else self.weight[rows] @ piece
        mean: np.ndarray = total / self.count
        return mean

    def centred(self, mean: np.ndarray, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        """Some rows and columns about the mean, in float64, each row times the root of its weight."""
        rows, columns = rows or slice(None), columns or slice(None)
        piece: np.ndarray = self.X[rows, columns] - mean[columns]
        if self.weight is not None:
            piece *= self.xp.sqrt(self.weight[rows])[:, None]
        return piece


def _slices(n: int, width: int) -> Iterator[slice]:
    """Cuts n lines of some width into pieces; Ctrl-C is heard between them."""
    step = max(1, _SLICE // max(width, 1))
    return (slice(begin, min(begin + step, n)) for begin in range(0, n, step))


def _oriented(axes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(axes * signs(axes)[:, None])


# ---- the covariance --------------------------------------------------------------------------------------------------


def by_covariance(rows: Rows) -> Spectrum:
    """From the eigenvectors of the covariance, or of the rows' products with each other where there are fewer rows than
    features. Variances below 1e-16 of the largest (float64; 1e-7 of it in float32) are noise."""
    if rows.n < rows.f:
        return _by_products(rows)
    moments = Moments(rows.f, rows.backend)
    moments.add(rows.X, rows.weight)
    return of_moments(*moments.get(), rows.n, rows.backend)


def of_moments(count: float, mean: np.ndarray, gram: np.ndarray, rows: int, backend: Backend) -> Spectrum:
    """From the sum of weights, the mean and the Gram matrix about it (f, f)."""
    values, vectors = eigh(gram / (count - 1), validate=False, backend=backend.name)
    rank = min(rows, len(mean))
    variance = np.maximum(values[::-1][:rank], 0)
    total = float(np.trace(gram)) / (count - 1)

    def axes(k: int) -> np.ndarray:
        return np.ascontiguousarray(vectors[:, ::-1][:, :k].T)

    return Spectrum(count, rows, mean, variance, total, axes, _EPSILON * len(mean) * float(variance[0]))


def _by_products(rows: Rows) -> Spectrum:
    mean, n, xp, home = rows.mean(), len(rows.X), rows.xp, rows.backend.home
    products = xp.zeros((n, n))
    for columns in _slices(rows.f, n):
        piece = rows.centred(mean, columns=columns)
        products += piece @ piece.T
    values, vectors = eigh(products, validate=False, backend=rows.backend.name)
    variance = np.zeros(rows.n)  # that of rows which are repeated is zero
    variance[:n] = np.maximum(home(values)[::-1], 0) / (rows.count - 1)

    def axes(k: int) -> np.ndarray:
        along = xp.zeros((rows.f, k))
        for columns in _slices(rows.f, n):
            along[columns, :n] = rows.centred(mean, columns=columns).T @ vectors[:, ::-1][:, :k]
        return _oriented(_orthonormal(home(along), np.sqrt(variance[:k] * (rows.count - 1))).T)

    least = _EPSILON * n * float(variance[0])
    return Spectrum(rows.count, rows.n, home(mean), variance, float(variance.sum()), axes, least)


def _orthonormal(columns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Columns of about these lengths made orthonormal, each against those before it: by Cholesky twice (Yamamoto et al.
    2015), which is all products of matrices, and where they are too near to dependent by Householder."""
    try:
        q: np.ndarray = columns / lengths
        for _ in range(2):
            q = q @ np.linalg.inv(np.linalg.cholesky(q.T @ q)).T
    except np.linalg.LinAlgError:
        return np.linalg.qr(columns)[0]
    return q


# ---- singular values -------------------------------------------------------------------------------------------------


def by_singular_values(rows: Rows) -> Spectrum:
    """From the singular values of the centred data, in float64: small variances are as exact as large ones. Takes a
    float64 copy of the data."""
    mean, n, xp, home, backend = rows.mean(), min(rows.n, rows.f), rows.xp, rows.backend.home, rows.backend.name
    data = rows.centred(mean)
    if len(data) < n:
        data = xp.concatenate([data, xp.zeros((n - len(data), rows.f))])
    if len(data) >= rows.f:
        _, values, right = svd(xp.linalg.qr(data, mode="r"), validate=False, backend=backend)

        def axes(k: int) -> np.ndarray:
            return np.ascontiguousarray(home(right[:k]))
    else:
        basis, triangle = xp.linalg.qr(data.T)
        left, values, _ = svd(triangle, validate=False, backend=backend)

        def axes(k: int) -> np.ndarray:
            return _oriented(home(basis @ left[:, :k]).T)

    variance = home(values) ** 2 / (rows.count - 1)
    least = (_EPSILON * max(rows.n, rows.f)) ** 2 * float(variance[0])
    return Spectrum(rows.count, rows.n, home(mean), variance, float(variance.sum()), axes, least)


# ---- random projections ----------------------------------------------------------------------------------------------


def by_random_projections(rows: Rows, k: int, oversamples: int, powers: int | None, seed: int) -> Spectrum:
    """The first k from a random subspace of k + oversamples dimensions, multiplied again and again by the covariance and
    made orthonormal (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.3). powers: how often beside the first time; None
    until the k variances settle to a ten-millionth of each, 30 times at most. Takes a copy of the data."""
    mean, width, f, xp, backend = rows.mean(), min(k + oversamples, rows.n, rows.f), rows.f, rows.xp, rows.backend
    data, total = xp.empty_like(rows.X), 0.0
    for part in _slices(len(data), f):
        piece = rows.centred(mean, part)
        total += float(xp.vdot(piece, piece))
        data[part] = piece
    subspace, before = backend.keep(_normals(f, width, seed, backend)), np.full(k, np.inf)
    for _ in range((_MOST_POWERS if powers is None else powers) + 2):
        subspace = xp.linalg.qr(subspace)[0]
        image = xp.zeros((f, width))
        for part in _slices(len(data), f):
            image += data[part].T @ (data[part] @ subspace.astype(data.dtype))
        values, vectors = eigh(subspace.T @ image / (rows.count - 1), validate=False, backend=backend.name)
        variance, turned = np.maximum(backend.home(values)[::-1][:k], 0), subspace @ vectors[:, ::-1][:, :k]
        settled = powers is None and (np.abs(variance - before) <= _SETTLED * variance).all()
        if settled or not math.isfinite(total):
            break
        before, subspace = variance, image
    mean, axes = backend.home(mean), backend.home(turned)
    return Spectrum(rows.count, rows.n, mean, variance, total / (rows.count - 1), lambda k: _oriented(axes[:, :k].T))


def _normals(n: int, width: int, seed: int, backend: Backend) -> np.ndarray:
    plan = Plan("normals", "float64")
    plan.output("z", "rows", width)
    plan.call("normal_forward", z="z", stream=STREAMS["projection"])
    z = np.empty((n, width))
    backend.bind(plan, n, {}).run({"z": z}, Clock(rows=n, seed=seed))
    return z


# ---- how many --------------------------------------------------------------------------------------------------------


def enough(variance: np.ndarray, fraction: float) -> int:
    """How many of all variances are needed for more than a fraction of their sum."""
    share = np.cumsum(variance) / variance.sum() if variance[0] > 0 else np.ones(len(variance))
    return min(int(np.searchsorted(share, fraction, side="right")) + 1, len(variance))


def most_likely(variance: np.ndarray, count: float) -> int:
    """The number of components of the greatest evidence, from 1 to one fewer than there are variances (Minka 2000,
    "Automatic choice of dimensionality for PCA", eq. 30)."""
    f, least = len(variance), 1e-15
    known = int((variance >= least).sum())
    some = variance[:known]
    with np.errstate(divide="ignore"):
        apart = np.log(np.maximum(np.triu(some[:, None] - variance, 1), np.finfo(float).tiny))
        inverse = np.log(np.maximum(np.triu(1 / some - 1 / some[:, None], 1), np.finfo(float).tiny))
    upper = np.triu(np.ones((known, f)), 1)
    before = np.cumsum((apart * upper).sum(1))
    inside = np.cumsum((inverse * upper[:, :known]).sum(0))
    half = (f - np.arange(f)) / 2
    prior = np.cumsum([math.lgamma(h) - math.log(2) - h * math.log(math.pi) for h in half])
    best, chosen = -math.inf, 1
    for k in range(1, min(known, f - 1) + 1):
        noise = max(float(variance[k:].mean()), least)
        outside = np.log(np.maximum(1 / noise - 1 / some[:k], np.finfo(float).tiny)).sum() * (f - k)
        free = f * k - k * (k + 1) / 2
        evidence = (
            prior[k - 1]
            - count / 2 * (np.log(some[:k]).sum() + (f - k) * math.log(noise))
            + (free + k) / 2 * math.log(2 * math.pi)
            - (before[k - 1] + inside[k - 1] + outside + free * math.log(count)) / 2
            - k / 2 * math.log(count)
        )
        if evidence > best:
            best, chosen = evidence, k
    return chosen
