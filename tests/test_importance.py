"""The importance-weighted bound and the weights of its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from cases import (
    Case,
    Values,
    assert_agrees,
    assert_differentiates,
    assert_tight,
    constant,
    denormal,
    each,
    each_dtype,
    each_set,
    execute,
    given,
    normal,
    positive,
    smooth,
    wide,
)
from numerics import Rounding, assert_close, assert_gradient

from latentcore.ops.importance import importance_forward
from latentcore.ops.signature import Clock

BETA = 0.7


def log_weights(case: Case, v: Values) -> np.ndarray:
    return (np.abs(v["beta"][0] * v["log_ratio"]) + np.abs(v["loss"])).reshape(-1, case.option("samples"))


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    # All of it is in float64. The error of an exponent is the relative error of its power.
    size, samples = log_weights(case, v).max(1), case.option("samples")
    weight = np.abs(out.get("weight", 0.0))
    return {
        "bound": Rounding(np.log(samples) + size, dtype="float64") + Rounding(1.0, samples, "float64"),
        "weight": Rounding(weight * np.repeat(size, samples), dtype="float64") + Rounding(weight, samples, "float64"),
    }


def objective(case: Case, v: Values) -> float:
    samples, bound = case.option("samples"), np.empty(case.rows)
    importance_forward(
        bound, None, v["loss"], v["log_ratio"], v["beta"], clock=Clock(), samples=samples, mean_over_rows=True
    )
    return float(bound.mean() if case.option("mean_over_rows") else bound.sum())


def forward(rows: int, samples: int, note: str = "", beta: float = BETA, absent=(), mean_over_rows=True, **makers) -> Case:
    return Case(
        "importance_forward", rows, {}, note, inputs={"beta": constant(beta), **makers}, absent=absent,
        options={"samples": samples, "mean_over_rows": mean_over_rows}, rounding=forward_rounding,
        objective=None if note or rows > 16 else objective, gradients={"weight": "loss"},
    )  # fmt: skip


def backward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"d": Rounding(np.abs(out["d"]))}


def backward(rows: int, features: int, note: str = "", samples: int = 1, **makers) -> Case:
    return Case(
        "importance_backward", rows, {"n": f"{samples}*rows", "f": features}, note,
        inputs={"d": normal, "weight": positive, **makers}, rounding=backward_rounding,
    )  # fmt: skip


CASES = [
    *(forward(rows, samples) for rows in (1, 7, 130) for samples in (1, 2, 5, 50)),
    forward(7, 5, "beta 0", beta=0.0),
    forward(7, 5, mean_over_rows=False),
    forward(7, 5, "bound alone", absent=("weight",)),
    forward(17, 5, "wide", loss=wide(1e4), log_ratio=wide(1e4)),
    forward(17, 5, "unlikely", loss=lambda rng, shape: 1e4 + rng.standard_normal(shape)),
    forward(17, 5, "equal", loss=constant(100), log_ratio=constant(-3)),
    *(backward(*shape) for shape in [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63), (3, 5000)]),
    backward(7, 17, samples=5),
    backward(7, 17, "denormal", d=denormal, weight=denormal),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


@smooth(CASES)
def test_gradient(case):
    assert_differentiates(case)


def test_tolerances_are_tight():
    assert_tight(CASES)


@pytest.mark.parametrize("samples", [1, 5])
def test_weights_are_the_gradient_by_the_log_ratio_too(samples):
    case = forward(7, samples, "log ratio")
    rng = np.random.default_rng(0)
    values = {
        "loss": rng.standard_normal(7 * samples),
        "log_ratio": rng.standard_normal(7 * samples),
        "beta": np.array([BETA]),
    }
    bound, weight = np.empty(7), np.empty(7 * samples)
    importance_forward(bound, weight, *values.values(), clock=Clock(), samples=samples, mean_over_rows=True)
    assert_gradient(lambda v: objective(case, v), values, {"log_ratio": -BETA * weight})


def test_reference_is_the_log_of_the_mean_weight():
    loss, log_ratio = np.random.default_rng(0).standard_normal((2, 12))
    bound = np.empty(3)
    importance_forward(bound, None, loss, log_ratio, np.array([BETA]), clock=Clock(), samples=4, mean_over_rows=True)
    want = -np.log(np.exp(BETA * log_ratio - loss).reshape(3, 4).mean(1))
    assert_close(bound, want, Rounding(5.0), "float64")


@each_set
def test_weights_of_a_row_sum_to_one(instruction_set):
    case = forward(9, 50, "sum", mean_over_rows=False, loss=wide(1e4))
    weight = execute(case, "float64", instruction_set)["weight"].reshape(9, 50)
    assert_close(weight.sum(1), np.ones(9), Rounding(1.0, 50), "float64")


@pytest.mark.parametrize("argument", ["loss", "log_ratio"])
@each_set
def test_nan_comes_through(argument, instruction_set):
    array = np.zeros(15)
    array[9] = np.nan
    bound = execute(forward(3, 5, "nan", **{argument: given(array)}), "float32", instruction_set)["bound"]
    assert np.isnan(bound).tolist() == [False, True, False]
