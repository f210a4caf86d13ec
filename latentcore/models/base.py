"""What every model is to the rest: plans, the storage that they are bound to, and a description that makes it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..backends import Backend, Runner, get_backend
from ..checks import check_array, check_option, not_fitted
from ..ops import Clock
from ..plan import Buffer, Plan
from . import files
from .estimator import Estimator

FUNCTIONS = (
    "encode", "posterior", "decode", "reconstruct", "transform", "inverse_transform", "score_samples", "forward",
)  # fmt: skip


class Model(Estimator, ABC):
    """Base of all models; not for direct use. A fitted one has been given storage by ``_hold``; ``_build_<function>``
    writes the plan of a function."""

    _lacks: ClassVar[tuple[str, ...]] = ()  # how not_fitted describes one that is not fitted
    _derives: ClassVar[tuple[str, ...]] = ()  # the states that ``_derived`` may make
    _golden: ClassVar[str]  # the function, of one input and one output, that a file holds an example of

    def _hold(self, backend: Backend, storage: dict[str, Any], dtype: str, n_features: int, code: int) -> None:
        """Takes on storage by name, for plans of a dtype, data of so many features and codes of so many."""
        self._backend, self._storage, self._dtype, self._code_features = backend, storage, dtype, code
        self.n_features_in_ = n_features
        self._plans: dict[Any, Plan] = {}
        self._device = backend.device
        self._run = Runner(backend, storage)

    def _check_fitted(self) -> None:
        if not hasattr(self, "_storage"):
            raise not_fitted(self, *self._lacks)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_storage")

    # ---- plans -----------------------------------------------------------------------------------------------------

    def plan(self, function: str, **options: Any) -> Plan:
        """The plan of a function; print it to see every call. Raises ValueError for another name."""
        self._check_fitted()
        check_option(function, "function", [k[7:] for k in dir(self) if k.startswith("_build_")])
        return self._plan(function, **options)

    def _plan(self, function: str, **options: Any) -> Plan:
        key = (function, *sorted(options.items()))
        if key not in self._plans:
            self._plans[key] = self._fresh_plan(function, self._dtype, **options)
        return self._plans[key]

    def _fresh_plan(self, function: str, dtype: str, **options: Any) -> Plan:
        plan = Plan(function, dtype)
        getattr(self, f"_build_{function}")(plan, **options)
        return plan

    def _on_cpu(self, buffer: Buffer) -> Any:
        """A copy of a state, as the CPU keeps it."""
        cpu, stored = get_backend("cpu"), self._storage[buffer.name]
        kept = cpu.allocate(buffer)
        if self._backend is cpu:
            kept[...] = stored
        else:
            cpu.put(kept, self._backend.get(stored, buffer))
        return kept

    @classmethod
    def _functions(cls) -> list[str]:
        """The functions of one input that ``lc.compile`` offers and files hold."""
        return [name for name in FUNCTIONS if hasattr(cls, f"_build_{name}")]

    # ---- functions -------------------------------------------------------------------------------------------------

    @property
    def _unit_interval(self) -> bool:
        """Whether the data must lie in [0, 1]."""
        return False

    def _check_data(self, X: Any, name: str = "X", validate: bool = True) -> np.ndarray:
        self._check_fitted()
        return check_array(
            X, name, self._dtype, features=self.n_features_in_, estimator=type(self).__name__, validate=validate,
            unit_interval=self._unit_interval, device=self._device,
        )  # fmt: skip

    # ---- copies, pickles and files ---------------------------------------------------------------------------------

    @abstractmethod
    def _describe(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that a fitted model holds beside its parameters: what JSON holds, and arrays."""

    @abstractmethod
    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
        """Makes a new model what ``_describe`` described. Raises TypeError or ValueError for what it cannot have."""

    def _derived(self) -> dict[str, np.ndarray]:
        """The states of its functions that ``_describe`` does not hold, by the names in ``_derives``, some of them: a file
        holds them for whoever only runs its plans. They have the same bits on every machine."""
        return {}

    @abstractmethod
    def _golden_input(self) -> np.ndarray:
        """Two rows like data, for the example that a file holds."""

    def _golden_output(self, golden: np.ndarray) -> np.ndarray:
        (output,) = self._run(self._plan(self._golden), {"x": golden}, len(golden), Clock()).values()
        return output

    def _move(self, backend: Backend) -> None:
        if hasattr(self, "_storage"):
            self._restore(*self._describe(), backend)

    def __getstate__(self) -> dict[str, Any]:
        fitted = (*self._describe(), self._backend.name) if hasattr(self, "_storage") else None
        return {"params": self.get_params(), "fitted": fitted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["params"])
        if state["fitted"] is not None:
            header, arrays, backend = state["fitted"]
            self._restore(header, arrays, get_backend(backend))

    def _save(self, path: Any) -> None:
        files.save(self, path)

    def _check_save(self, path: Any, name: str) -> None:
        """Raises what saving to that path would raise."""
        files.check_save(self, path, name)


class LatentModel(Model):
    """Base of the models with a code for each row of data; not for direct use."""

    @abstractmethod
    def _append_decoder(self, plan: Plan, z: str) -> None:
        """Appends the decoding of codes; the output is "x_mean"."""

    def _build_interpolate(self, plan: Plan, method: str = "slerp") -> None:
        for name in ("a", "b"):
            plan.input(name, "rows", self._code_features)
        plan.input("t", "rows")
        z = plan.temporary("z", "rows", self._code_features)
        plan.call(f"{method}_forward", y=z, a="a", b="b", t="t")
        self._append_decoder(plan, z)

    def _check_codes(self, z: Any, name: str = "z", validate: bool = True) -> np.ndarray:
        self._check_fitted()
        return check_array(z, name, self._dtype, features=self._code_features, validate=validate, device=self._device)

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> Any:
        """Fits the model to X (rows, n_features); y is ignored. Returns self."""

    @abstractmethod
    def transform(self, X: Any) -> np.ndarray:
        """The codes of the rows of X."""

    @abstractmethod
    def score_samples(self, X: Any) -> np.ndarray:
        """The log-likelihood of each row of X in nats, or a bound of it, (rows,) float64."""

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """``fit``, and the codes of X."""
        return self.fit(X).transform(X)  # type: ignore[no-any-return]

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of ``score_samples``."""
        return float(self.score_samples(X).mean())
