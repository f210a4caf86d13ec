"""A function of a model as it is now, with its weights in some dtype, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..backends import Runner, get_backend
from ..backends.cpu import COMPRESSED, CpuBackend
from ..checks import check_array
from ..ops import Clock
from ..plan import Plan

if TYPE_CHECKING:
    from .base import Model

WEIGHTS = ("float32", "float64", *COMPRESSED)


class ErrorReport(NamedTuple):
    """What a function's weights cost on some rows, against those of the model's own dtype. worst, mean: the absolute
    differences of the outputs. loss: the relative change of the mean reconstruction loss of the rows, for "reconstruct" of
    a model that has one; else None."""

    worst: float
    mean: float
    loss: float | None


class Snapshot:
    """The plan of a function, and its state on the CPU, which the model no longer changes. weights: one of WEIGHTS, the
    dtype of the plan, or how those weights are kept in a plan of float32 that linear layers alone read. Where that is not
    the model's own dtype, the state in that stays too, for the report. Raises ValueError for a weight that is beyond it."""

    def __init__(self, model: Model, function: str, weights: str) -> None:
        dtype = "float32" if weights in COMPRESSED else weights
        judged = function == "reconstruct" and hasattr(model, "_build_loss")
        names = (function, "loss") if judged else (function,)
        self._own = [model._plan(name) for name in names]
        self._plans = self._own if dtype == model._dtype else [model._fresh_plan(name, dtype) for name in names]
        self._own_state = {b.name: model._on_cpu(b) for plan in self._own for b in plan.of_role("state")}
        self._unit_interval = model._unit_interval
        self.plan, self.weights = self._plans[0], weights
        self.state = self._own_state if weights == model._dtype else self._converted()

    def _converted(self) -> dict[str, Any]:
        cpu, state = get_backend("cpu"), {}
        others = {name for plan in self._plans for c in plan.calls if c.op != "linear_forward" for name in c.arguments}
        for own, plan in zip(self._own, self._plans, strict=True):
            for source, b in zip(own.of_role("state"), plan.of_role("state"), strict=True):
                array, kept = cpu.get(self._own_state[b.name], source), cpu.allocate(b)
                try:
                    with np.errstate(over="ignore"):
                        cpu.put(kept, array)
                    if not np.isfinite(kept).all():
                        raise ValueError(f"expected finite numbers in {kept.dtype}")
                    small = self.weights in COMPRESSED and b.layout == "weight" and b.name not in others
                    state[b.name] = CpuBackend.compress(array, self.weights) if small else kept
                except ValueError as error:
                    raise ValueError(f"weights: {b.name}: {error}") from None
        return state

    def error_report(self, X: Any) -> ErrorReport:
        """Runs the function on the rows of X, what it takes, (rows, features), with these weights and with those of the
        model's own dtype. Raises TypeError or ValueError."""
        source = self.plan.of_role("input")[0]
        unit = self._unit_interval and source.name == "x"
        X = check_array(X, "X", self._own[0].dtype, features=source.array_shape(1)[1], unit_interval=unit)
        (got, *loss), (want, *own_loss) = _run(self._plans, self.state, X), _run(self._own, self._own_state, X)
        difference = np.concatenate([np.abs(got[k].astype(np.float64) - want[k]).ravel() for k in want])
        change = float(loss[0]["loss"].mean() / own_loss[0]["loss"].mean() - 1) if loss else None
        return ErrorReport(float(difference.max()), float(difference.mean()), change)


def _run(plans: Sequence[Plan], state: Mapping[str, Any], X: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The outputs of each plan of one input."""
    run = Runner(get_backend("cpu"), state)
    return [run(p, {p.of_role("input")[0].name: X.astype(p.dtype, copy=False)}, len(X), Clock()) for p in plans]
