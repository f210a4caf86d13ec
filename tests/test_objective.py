"""What a step reports, where it stops, and the score of a row."""

from __future__ import annotations

import numpy as np
import pytest
from cases import (
    SETS,
    Case,
    Values,
    assert_agrees,
    assert_tight,
    constant,
    each,
    each_dtype,
    each_set,
    execute,
    given,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits

from latentcore.backends import NonFiniteError, get_backend
from latentcore.plan import Plan

LATENT = 7
BETA = 0.5


def mean_rounding(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    return np.sqrt((values**2).sum(axis)) / values.shape[-1]


def metrics_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    dims = v["kl_dim"] if case.has("kl_dim") else np.zeros(0)
    recon, kl = mean_rounding(v["recon"]), np.sqrt((dims**2).sum())
    charged = BETA * np.sqrt((np.maximum(dims, case.option("free_bits")) ** 2).sum())
    objective = mean_rounding(v["bound"]) if case.has("bound") else recon + charged
    scale = np.array([[objective, recon, kl, *np.zeros(len(dims))]])
    return {"metrics": Rounding(scale, max(len(v["recon"]), len(dims)), "float64")}


def objective(rows: int, note: str = "", absent=(), samples: int = 1, free_bits: float = 0.0, **makers) -> Case:
    latent = 0 if "kl_dim" in absent else LATENT
    return Case(
        "objective_forward", rows, {"m": 3 + latent, "n": f"{samples}*rows", "l": LATENT}, note, absent=absent,
        inputs={"beta": constant(BETA), **makers}, options={"free_bits": free_bits}, rounding=metrics_rounding,
    )  # fmt: skip


def score_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    samples = case.option("samples")
    recon, kl = mean_rounding(v["recon"].reshape(-1, samples), 1), np.abs(v["kl"]) if case.has("kl") else 0
    return {"score": Rounding(recon + kl, samples, "float64")}


def score(rows: int, samples: int, note: str = "", absent=(), **makers) -> Case:
    return Case(
        "score_forward",
        rows,
        {},
        note,
        absent=absent,
        inputs=makers,
        options={"samples": samples},
        rounding=score_rounding,
    )


CASES = [
    *(objective(rows, absent=("bound",)) for rows in (1, 7, 16, 33, 130)),
    objective(17, free_bits=0.25, absent=("bound",)),
    objective(17, absent=("bound", "kl_dim")),
    *(objective(17, samples=samples, absent=("kl_dim",)) for samples in (1, 5)),
    objective(17, absent=()),
    objective(17, "wide", absent=("bound",), recon=wide(1e4), kl_dim=wide(1e4)),
    *(score(rows, samples) for rows in (1, 7, 130) for samples in (1, 5)),
    score(17, 50, absent=("kl",)),
    score(17, 5, "wide", recon=wide(1e4), kl=wide(1e4)),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@pytest.mark.parametrize(("free_bits", "want"), [(0.0, 6 + 0.5 * 3.5), (1.0, 6 + 0.5 * 4)])
def test_a_row_of_metrics_by_hand(instruction_set, free_bits, want):
    recon, kl_dim = np.array([4.0, 8.0]), np.array([0.5, 2.0, 1.0])
    case = Case(
        "objective_forward", 2, {"m": 6, "n": "rows", "l": 3}, absent=("bound",), options={"free_bits": free_bits},
        inputs={"recon": given(recon), "kl_dim": given(kl_dim), "beta": constant(0.5)},
    )  # fmt: skip
    metrics = execute(case, "float32", instruction_set)["metrics"]
    assert metrics.tolist() == [[want, 6, 3.5, 0.5, 2, 1]]


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("argument", "absent"),
    [("recon", ("bound",)), ("kl_dim", ("bound",)), ("bound", ()), ("recon", ()), ("kl_dim", ()), ("beta", ("bound",))],
    ids=["recon", "kl", "bound", "recon beside a bound", "kl beside a bound", "beta"],
)
def test_an_objective_that_is_not_finite_ends_the_run(instruction_set, value, argument, absent):
    def spoilt(rng, shape):
        array = rng.standard_normal(shape)
        array[-1] = value
        return array

    with pytest.raises(NonFiniteError, match="objective_forward"):
        execute(objective(5, "spoilt", absent=absent, **{argument: spoilt}), "float32", instruction_set)


def steps_of(name: str, beta: list[float], progress: np.ndarray, data_rows: int) -> np.ndarray:
    """The metrics of a step for each beta over minibatches of at most 4 rows, whose recon is 0, 1, 2, 3."""
    plan = Plan("run", "float64")
    plan.input("recon", "rows", dtype="float64")
    plan.input("kl_dim", 1, dtype="float64")
    plan.input("beta", "steps", dtype="float64")
    plan.output("metrics", "steps", 4, dtype="float64")
    plan.call("objective_forward", metrics="metrics", recon="recon", kl_dim="kl_dim", beta="beta")
    metrics = np.full((len(beta), 4), np.nan)
    arrays = {"recon": np.arange(4.0), "kl_dim": np.array([2.0]), "beta": np.array(beta), "metrics": metrics}
    get_backend(name).bind(plan, 4, {}).train(arrays, progress, 0, data_rows, batch=4, steps=len(beta))
    return metrics


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_run_fills_a_row_each_step(name):
    progress = np.array([5, 0, 0], np.int64)
    metrics = steps_of(name, [0.0, 0.5, 1.0], progress, data_rows=10)  # 4, 4 and the last 2 rows of an epoch
    assert_same_bits(metrics, np.array([[1.5, 1.5, 2, 2], [2.5, 1.5, 2, 2], [2.5, 0.5, 2, 2]]))
    assert list(progress) == [8, 1, 0]


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_run_stops_at_the_step_that_is_not_finite(name):
    progress = np.zeros(3, np.int64)
    with pytest.raises(NonFiniteError):
        steps_of(name, [1.0, 1.0, np.inf, 1.0], progress, data_rows=4)
    assert list(progress) == [2, 2, 0]


@each_set
def test_a_score_is_minus_the_mean_and_the_kl(instruction_set):
    case = score(2, 2, "by hand", recon=given(np.array([1.0, 3.0, 4.0, 4.0])), kl=given(np.array([0.5, 7.0])))
    assert_close(execute(case, "float32", instruction_set)["score"], np.array([-2.5, -11.0]), Rounding(0.0), "float64")
