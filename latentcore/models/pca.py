"""Principal component analysis, and its probabilistic reading (Tipping & Bishop 1999)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..backends import Backend, get_backend
from ..checks import (
    as_array,
    check_array,
    check_bool,
    check_int,
    check_option,
    check_real,
    check_seed,
    check_weights,
    kept_dtype,
    shown,
)
from ..ops import Clock
from ..ops.random import STREAMS, philox_uniform
from ..plan import Buffer, Plan
from .base import LatentModel
from .files import check_keys, check_tensor
from .spectrum import Rows, Spectrum, by_covariance, by_random_projections, by_singular_values, enough, most_likely

SOLVERS = ("auto", "full", "covariance_eigh", "randomized")
_ARRAYS = ("components", "mean", "explained_variance", "explained_variance_ratio", "singular_values")
_KEYS = ("n_samples", "noise_variance", "seed", "whiten")
_SMALL = 500  # rows and features up to which all singular values are computed
_TALL = 50  # how often the random subspace must go into the smaller side


class PCA(LatentModel):
    """Principal component analysis. Statistics are computed in float64 whatever the data's dtype; components and codes
    have the data's dtype (float32 or float64; all else becomes float64).

    n_components: an int from 1 to min(rows, n_features), None for all, a fraction in (0, 1) of the variance, to be exceeded,
    or "mle" (Minka 2000). whiten: codes of variance 1. n_oversamples and iterated_power are the randomized solver's: how
    many dimensions its subspace has beside n_components, and how often it is multiplied by the covariance again ("auto":
    until the variances settle to seven digits, 30 times at most). backend: "cpu", "cuda", "reference", or "auto": where X
    lies. random_state: the randomized solver's seed, or None to draw one, kept as ``seed_``. svd_solver:

    - "full": the singular values of the centred data, in float64. Small variances are as exact as large ones.
    - "covariance_eigh": the eigenvectors of the covariance, or of the products of rows where these are fewer than the
      features. Variances below the rounding of the largest are noise.
    - "randomized" (Halko, Martinsson & Tropp 2011), for an int n_components.
    - "auto": full up to 500 rows and features; beyond, randomized where 50 (n_components + n_oversamples) is less than
      min(rows, n_features), else covariance_eigh.

    Fitted: components_ (n_components_, n_features), orthonormal rows, the largest entry of each positive; mean_
    (n_features,), explained_variance_ (n_components_,), explained_variance_ratio_ and singular_values_, float64;
    noise_variance_, n_components_, n_features_in_, n_samples_. The arrays are read-only: a record of what was fitted.
    """

    _lacks = ("components", "fit")
    _derives = ("variance", "noise", "whiten", "unwhiten")
    _golden = "transform"

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        svd_solver: str = "auto",
        iterated_power: Any = "auto",
        n_oversamples: int = 10,
        backend: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.backend = backend
        self.random_state = random_state

    # ---- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fits the model to X (rows, n_features), two rows or more; y is ignored. sample_weight: (rows,) numbers of at
        least 0; a row of weight 3 counts as three rows, one of weight 0 is left out. Returns self; whatever goes wrong, and
        Ctrl-C, leaves the model as it was. Raises TypeError or ValueError."""
        engine = get_backend(self.backend, X)
        X = as_array(X, "X", engine.device)
        dtype = kept_dtype(X)
        X = check_array(X, "X", dtype, validate=sample_weight is not None, device=engine.device)
        rows = _rows(X, sample_weight, engine)
        with np.errstate(over="ignore", invalid="ignore"):
            spectrum, seed = self._solve(rows)
        if not math.isfinite(spectrum.total):
            check_array(X, "X", dtype, device=engine.device)  # the sums know of NaN: no pass of its own looks for it
        self._set_spectrum(spectrum, dtype, engine, seed)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """``fit``, and the codes of X."""
        return self.fit(X, sample_weight=sample_weight).transform(X)  # type: ignore[no-any-return]

    def _solve(self, rows: Rows) -> tuple[Spectrum, int | None]:
        solver = check_option(self.svd_solver, "svd_solver", SOLVERS)
        oversamples = check_int(self.n_oversamples, "n_oversamples", 1)
        powers = None if self.iterated_power == "auto" else check_int(self.iterated_power, "iterated_power", 0)
        rank = min(rows.n, rows.f)
        k = self._check_components(rank, rows.n >= rows.f)
        if solver == "auto":
            if max(rows.n, rows.f) <= _SMALL:
                solver = "full"
            else:
                solver = "randomized" if k and _TALL * (k + oversamples) < rank else "covariance_eigh"
        if solver == "full":
            return by_singular_values(rows), None
        if solver == "covariance_eigh":
            return by_covariance(rows), None
        if k is None:
            given = shown(self.n_components)
            raise ValueError(f"n_components: expected an integer or None with svd_solver='randomized', got {given}")
        seed = check_seed(self.random_state)
        return by_random_projections(rows, k, oversamples, powers, seed), seed

    def _check_components(self, rank: int, tall: bool) -> int | None:
        """n_components as a number, or None where it depends on the variances; rank: how many these are."""
        k = self.n_components
        if k is None:
            return rank
        if isinstance(k, str):
            if check_option(k, "n_components", ("mle",)) and not tall:
                raise ValueError("n_components: expected at least as many rows as features with 'mle', got fewer")
            return None
        if isinstance(k, numbers.Real) and not isinstance(k, numbers.Integral):
            if not 0 < float(k) < 1:
                raise ValueError(f"n_components: expected an integer, or a fraction between 0 and 1, got {shown(k)}")
            return None
        return check_int(k, "n_components", 1, rank)

    def _set_spectrum(self, spectrum: Spectrum, dtype: str, backend: Backend, seed: int | None = None) -> None:
        """Makes the model that of a spectrum, for data of a dtype: what every way of fitting ends with; from a sum of
        weights, a mean and a Gram matrix, ``of_moments`` makes a spectrum."""
        if not math.isfinite(spectrum.total):
            raise ValueError("X: expected numbers whose squares are finite, in float32 if they are that, got larger ones")
        k = self._check_components(spectrum.rank, spectrum.rows >= len(spectrum.mean))
        if k is None and isinstance(self.n_components, str):
            k = most_likely(spectrum.variance, spectrum.count)
        elif k is None:
            k = enough(spectrum.variance, float(self.n_components))
        variance = spectrum.variance[:k]
        arrays = {
            "components": spectrum.first(k).astype(dtype),
            "mean": spectrum.mean,
            "explained_variance": variance,
            "explained_variance_ratio": variance / spectrum.total if spectrum.total > 0 else np.zeros(k),
            "singular_values": np.sqrt(variance * (spectrum.count - 1)),
        }
        whiten = check_bool(self.whiten, "whiten")
        self._set_fitted(arrays, spectrum.rows, spectrum.noise(k), seed, whiten, backend)

    def _set_fitted(
        self,
        arrays: Mapping[str, np.ndarray],
        n_samples: int,
        noise: float,
        seed: int | None,
        whiten: bool,
        backend: Backend,
    ) -> None:
        for name in _ARRAYS:
            array = np.array(arrays[name], order="C")
            array.flags.writeable = False
            setattr(self, f"{name}_", array)
        self.n_components_, features = self.components_.shape
        self.n_samples_, self.noise_variance_, self.seed_, self._whiten = n_samples, noise, seed, whiten
        self._hold(backend, {}, str(self.components_.dtype), features, self.n_components_)

    components_: np.ndarray
    mean_: np.ndarray
    explained_variance_: np.ndarray
    explained_variance_ratio_: np.ndarray
    singular_values_: np.ndarray

    # ---- plans -----------------------------------------------------------------------------------------------------

    def _model_noise(self) -> float:
        """The variance outside the components in the model: no less than what rounding makes of the largest variance."""
        rounding = self.n_features_in_ * float(np.finfo(self.components_.dtype).eps) ** 2
        return max(self.noise_variance_, rounding * float(self.explained_variance_[0]))

    def _model_variance(self) -> np.ndarray:
        """The variance of the codes in the model: no less than the noise."""
        variance: np.ndarray = np.maximum(self.explained_variance_, self._model_noise())
        return variance

    def _scale(self) -> np.ndarray:
        """What whitening divides the codes by. A direction without variance is not blown up."""
        deviation = np.sqrt(self.explained_variance_)
        least = np.finfo(self.components_.dtype).eps * deviation[0]
        scale: np.ndarray = np.maximum(deviation, least if least > 0 else 1.0)
        return scale

    def _weight(self, plan: Plan, name: str) -> str:
        """Declares a weight: "components" (codes of centred rows) and "components.T" (back), "whiten" and "unwhiten" (the
        same with whitening), "generate" (centred rows of standard normal codes)."""
        matrix = self._matrix(name)
        joined = np.concatenate([matrix, np.zeros((len(matrix), 1))], 1)
        self._keep(Buffer(name, matrix.shape, self._dtype, "state", "weight"), joined)
        return plan.weight(name, *matrix.shape)

    def _matrix(self, name: str) -> np.ndarray:
        """A weight (out, in) in float64."""
        V = self.components_.astype(np.float64)
        made: dict[str, Callable[[], np.ndarray]] = {
            "components": lambda: V,
            "components.T": lambda: V.T,
            "whiten": lambda: V / self._scale()[:, None],
            "unwhiten": lambda: (V * self._scale()[:, None]).T,
            "generate": lambda: (V * np.sqrt(self._model_variance() - self._model_noise())[:, None]).T,
        }
        return made[name]()

    def _derived(self) -> dict[str, np.ndarray]:
        weights = {name: self._matrix(name).astype(self._dtype) for name in ("whiten", "unwhiten") if self._whiten}
        return {**weights, "variance": self._model_variance(), "noise": np.array([self._model_noise()])}

    def _vector(self, plan: Plan, name: str, array: np.ndarray) -> str:
        self._keep(Buffer(name, array.shape, "float64", "state"), array)
        return plan.state(name, *array.shape, dtype="float64")

    def _keep(self, buffer: Buffer, array: np.ndarray) -> None:
        if buffer.name not in self._storage:
            storage = self._backend.allocate(buffer)
            self._backend.put(storage, array)
            self._storage[buffer.name] = storage

    def _centre(self, plan: Plan, x: str) -> str:
        xc = plan.temporary("centred", "rows", self.n_features_in_)
        plan.call("shift_forward", y=xc, x=x, by=self._vector(plan, "mean", self.mean_), subtract=True)
        return xc

    def _uncentre(self, plan: Plan, xc: str, x: str) -> None:
        plan.call("shift_forward", y=x, x=xc, by=self._vector(plan, "mean", self.mean_))

    def _build_transform(self, plan: Plan) -> None:
        plan.input("x", "rows", self.n_features_in_)
        plan.output("z", "rows", self.n_components_)
        w = self._weight(plan, "whiten" if self._whiten else "components")
        plan.call("linear_forward", y="z", x=self._centre(plan, "x"), w=w)

    def _build_inverse_transform(self, plan: Plan) -> None:
        plan.input("z", "rows", self.n_components_)
        self._append_decoder(plan, "z")

    def _append_decoder(self, plan: Plan, z: str, weight: str | None = None) -> None:
        plan.output("x_mean", "rows", self.n_features_in_)
        xc = plan.temporary("decoded", "rows", self.n_features_in_)
        weight = weight or ("unwhiten" if self._whiten else "components.T")
        plan.call("linear_forward", y=xc, x=z, w=self._weight(plan, weight))
        self._uncentre(plan, xc, "x_mean")

    def _build_score_samples(self, plan: Plan) -> None:
        plan.input("x", "rows", self.n_features_in_)
        plan.output("score", "rows", dtype="float64")
        xc = self._centre(plan, "x")
        z = plan.temporary("z", "rows", self.n_components_)
        plan.call("linear_forward", y=z, x=xc, w=self._weight(plan, "components"))
        residual = {}
        if self.n_components_ < self.n_features_in_:
            xr = plan.temporary("projected", "rows", self.n_features_in_)
            plan.call("linear_forward", y=xr, x=z, w=self._weight(plan, "components.T"))
            residual = {"xc": xc, "xr": xr}
        variance = self._vector(plan, "variance", self._model_variance())
        noise = self._vector(plan, "noise", np.array([self._model_noise()]))
        plan.call("probabilistic_pca_forward", loglik="score", z=z, variance=variance, noise=noise, **residual)

    def _build_sample(self, plan: Plan) -> None:
        z = plan.temporary("z", "rows", self.n_components_)
        plan.call("normal_forward", z=z, stream=STREAMS["sample"])
        self._append_decoder(plan, z, "generate")

    # ---- functions -------------------------------------------------------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """The codes of the rows of X (rows, n_features): (rows, n_components_), in the dtype of the model. Raises
        NotFittedError, TypeError, ValueError."""
        X = self._check_data(X)
        return self._run(self._plan("transform"), {"x": X}, len(X), Clock())["z"]

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """The rows that codes Z (rows, n_components_) stand for: (rows, n_features). Raises as ``transform``."""
        Z = self._check_codes(Z, "Z")
        return self._run(self._plan("inverse_transform"), {"z": Z}, len(Z), Clock())["x_mean"]

    def score_samples(self, X: Any) -> np.ndarray:
        """The log-likelihood of each row of X in nats under probabilistic PCA, (rows,) float64; a direction without variance
        counts as having that of rounding. Raises as ``transform``, and numpy.linalg.LinAlgError where none has any."""
        X = self._check_data(X)
        self._check_density()
        return self._run(self._plan("score_samples"), {"x": X}, len(X), Clock())["score"]

    def _check_density(self) -> None:
        if self._model_noise() == 0:
            raise np.linalg.LinAlgError(
                "the covariance of the model is zero: the rows that it was fitted to are all the same"
            )

    def get_covariance(self) -> np.ndarray:
        """The covariance of the data in the model, (n_features, n_features) float64: that along the components, and
        noise_variance_ in all other directions, where it is not below rounding."""
        return self._spread(self._model_variance(), self._model_noise())

    def get_precision(self) -> np.ndarray:
        """The inverse of the covariance, (n_features, n_features) float64. Raises numpy.linalg.LinAlgError without one."""
        self._check_fitted()
        self._check_density()
        outside = 1 / self._model_noise() if self.n_components_ < self.n_features_in_ else 0.0
        return self._spread(1 / self._model_variance(), outside)

    def _spread(self, along: np.ndarray, outside: float) -> np.ndarray:
        """The symmetric matrix of these eigenvalues along the components, and of one outside them."""
        self._check_fitted()
        V = self.components_.astype(np.float64)
        matrix: np.ndarray = (V.T * (along - outside)) @ V
        matrix[np.diag_indices(len(matrix))] += outside
        return matrix

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the codes: the class's in lower case and a number."""
        self._check_fitted()
        name = type(self).__name__.lower()
        return np.array([f"{name}{i}" for i in range(self.n_components_)], dtype=object)

    # ---- copies, pickles and files ---------------------------------------------------------------------------------

    def _describe(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header = {
            "n_samples": self.n_samples_,
            "noise_variance": self.noise_variance_,
            "seed": self.seed_,
            "whiten": self._whiten,
        }
        return header, {name: getattr(self, f"{name}_") for name in _ARRAYS}

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
        check_keys("header", header, _KEYS)
        check_keys("tensors", arrays, _ARRAYS)
        components, dtype = arrays["components"], str(arrays["components"].dtype)
        if components.ndim != 2 or not 1 <= components.shape[0] <= components.shape[1]:
            raise ValueError(f"components: expected as many rows as columns or fewer, got shape {components.shape}")
        k, features = components.shape
        check_tensor("components", components, check_option(dtype, "components", ("float32", "float64")), (k, features))
        for name in _ARRAYS[1:]:
            check_tensor(name, arrays[name], "float64", (features if name == "mean" else k,))
        for name in _ARRAYS:
            low = -math.inf if name in ("components", "mean") else 0
            if not (np.isfinite(arrays[name]).all() and arrays[name].min() >= low):
                raise ValueError(f"{name}: expected finite numbers" + (" of at least 0" if low == 0 else ""))
        seed = header["seed"]
        self._set_fitted(
            arrays,
            check_int(header["n_samples"], "n_samples", 2),
            check_real(header["noise_variance"], "noise_variance", 0),
            None if seed is None else check_int(seed, "seed", 0, 2**64 - 1),
            check_bool(header["whiten"], "whiten"),
            backend,
        )

    def _golden_input(self) -> np.ndarray:
        around = 2 * philox_uniform(0, np.arange(2), self.n_features_in_, 0, 0) - 1
        wide = self.mean_ + math.sqrt(self.explained_variance_.mean()) * around
        most = np.finfo(self._dtype).max
        return np.ascontiguousarray(np.clip(wide, -most, most), self._dtype)


def _rows(X: np.ndarray, sample_weight: Any, backend: Backend) -> Rows:
    """The rows of X that count, with their weights."""
    weight = None
    if sample_weight is not None:
        weight = check_weights(sample_weight, len(X), device=backend.device)
        counts = weight > 0
        if not counts.all():
            X, weight = backend.keep(X)[backend.keep(counts)], weight[counts]
    rows = Rows(X, weight, backend)
    check_count(rows.count, weight is not None)
    return rows


def check_count(count: float, weighted: bool) -> None:
    """Raises ValueError unless more than one row counts."""
    if count <= 1:
        raise ValueError(
            f"sample_weight: expected weights, not all zero, of a sum above 1, got a sum of {count:g}"
            if weighted
            else "X: expected two rows or more, got 1 sample"
        )
