"""The Bernoulli loss from logits, and its gradient."""

from __future__ import annotations

import math

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
    fractions,
    given,
    smooth,
    unit,
    wide,
)
from numerics import RUN, Rounding, assert_close, sum_in_runs

from latentcore.ops.bernoulli import bernoulli_forward
from latentcore.ops.special import sigmoid, softplus

SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63), (63, 130), (5, 784), (2, 20_000)]


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    x, logits = np.repeat(v["x"], case.option("samples"), 0), v["logits"]
    terms = np.maximum(logits, 0) + np.abs(logits) * x + softplus(-np.abs(logits))
    rows = len(v["x"]) if case.option("mean_over_rows") else 1
    return {
        "loss": sum_in_runs(terms, RUN),
        "dlogits": Rounding(np.hypot(sigmoid(logits), x) / rows),
    }


def objective(case: Case, v: Values) -> float:
    loss = np.empty(len(v["logits"]))
    bernoulli_forward(loss, None, v["logits"], v["x"], samples=case.option("samples"), mean_over_rows=True)
    return float(loss.sum() / (len(v["x"]) if case.option("mean_over_rows") else 1))


def bernoulli(rows: int, features: int, note: str = "", absent=(), makers=None, **options) -> Case:
    return Case(
        "bernoulli_forward", rows, {"f": features}, note, inputs={"x": unit, **(makers or {})}, options=options,
        absent=absent, rounding=rounding, objective=None if note or rows > 16 or features > 1000 or absent else objective,
        gradients={"dlogits": "logits"},
    )  # fmt: skip


CASES = [
    *(bernoulli(*shape) for shape in SHAPES),
    bernoulli(7, 17, samples=5),
    bernoulli(130, 33, samples=3),
    bernoulli(7, 17, mean_over_rows=False),
    bernoulli(7, 17, samples=5, mean_over_rows=False),
    bernoulli(7, 17, "no gradient", absent=("dlogits",)),
    bernoulli(7, 17, "no loss", absent=("loss",)),
    bernoulli(17, 33, "wide", makers={"logits": wide(1e4)}),
    bernoulli(17, 33, "fractions", makers={"logits": wide(40), "x": fractions}),
    bernoulli(17, 33, "all zero", makers={"logits": constant(0), "x": constant(0)}),
    bernoulli(17, 33, "denormal", makers={"logits": denormal, "x": lambda *of: np.abs(denormal(*of)) / 8}),
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


def test_reference_is_the_log_likelihood():
    logits, x = np.array([[-3.0, 0.4], [2.0, 0.0]]), np.array([[0.0, 1.0], [0.25, 0.5]])
    loss = np.empty(2)
    bernoulli_forward(loss, None, logits, x, samples=1, mean_over_rows=True)
    want = np.zeros(2)
    for (i, j), logit in np.ndenumerate(logits):
        p = 1 / (1 + math.exp(-logit))
        want[i] -= x[i, j] * math.log(p) + (1 - x[i, j]) * math.log(1 - p)
    assert_close(loss, want, Rounding(5.0), "float64")


@each_dtype
@each_set
def test_a_certain_prediction_costs_all_or_nothing(dtype, instruction_set):
    logits, x = np.array([[1e4, -1e4], [1e4, 1e4]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    out = execute(bernoulli(2, 2, "certain", makers={"logits": given(logits), "x": given(x)}), dtype, instruction_set)
    assert list(out["loss"]) == [0, 1e4]
    assert out["dlogits"].tolist() == [[0, 0], [0.5, 0]]


@pytest.mark.parametrize("place", [0, 16])
@each_dtype
@each_set
def test_nan_comes_through(place, dtype, instruction_set):
    logits = np.zeros((3, 17))
    logits[1, place] = np.nan
    out = execute(bernoulli(3, 17, "nan", makers={"logits": given(logits)}), dtype, instruction_set)
    assert np.isnan(out["loss"]).tolist() == [False, True, False]
    assert np.isnan(out["dlogits"]).sum() == 1
