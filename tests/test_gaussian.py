"""The Gaussian loss of one variance, fixed or learned, and its gradients."""

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
    given,
    normal,
    positive,
    smooth,
    wide,
)
from numerics import RUN, Rounding, assert_close, sum_in_runs

from latentcore.ops.gaussian import gaussian_forward

SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63), (63, 130), (5, 784), (2, 20_000)]
LOG_2PI = math.log(2 * math.pi)


def log_variance(case: Case, v: Values) -> float:
    return (
        float(np.clip(v["log_variance"][0, 0], -30, 20)) if case.has("log_variance") else math.log(case.option("variance"))
    )


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    log_s, features = log_variance(case, v), v["mean"].shape[1]
    squares = (v["mean"] - np.repeat(v["x"], case.option("samples"), 0)) ** 2 * math.exp(-log_s)
    squares = sum_in_runs(0.5 * squares, RUN)
    return {
        "loss": squares + Rounding(features * (abs(log_s) + LOG_2PI), dtype="float64"),
        "dmean": Rounding(np.abs(out.get("dmean", 0.0))),
        "dlog_variance": squares + Rounding(features, dtype="float64"),
    }


def losses(case: Case, v: Values) -> np.ndarray:
    loss, learned = np.empty(len(v["mean"])), v["log_variance"] if case.has("log_variance") else None
    options = {k: case.options[k] for k in ("samples", "variance") if k in case.options}
    options = {"samples": 1, "variance": 1.0, **options}
    gaussian_forward(loss, None, None, v["mean"], v["x"], learned, mean_over_rows=True, **options)
    return loss


def objective(case: Case, v: Values) -> float:
    return float(losses(case, v).sum() / (len(v["x"]) if case.option("mean_over_rows") else 1))


def gaussian(
    rows: int, features: int, note: str = "", learned: float | None = None, absent=(), makers=None, **options
) -> Case:
    fixed = ("log_variance", "dlog_variance") if learned is None else ()
    name = note if learned is None else f"{note} log {learned}".strip()
    return Case(
        "gaussian_forward", rows, {"f": features}, name,
        inputs={"log_variance": constant(learned or 0.0), **(makers or {})}, options=options, absent=(*fixed, *absent),
        rounding=rounding, objective=None if note or rows > 16 or features > 1000 else objective,
        gradients={"dmean": "mean"},
    )  # fmt: skip


def variance_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    terms = v["dlog_variance"] * (v["weight"] if case.has("weight") else case.option("samples") / len(v["dlog_variance"]))
    sums = Rounding(np.sqrt((terms**2).sum()), len(terms), "float64")
    return {"dw": Rounding(np.abs(out["dw"])) + sums}


def add_derivatives(case: Case, v: Values) -> None:
    """A mean, data and a log-variance, and the derivatives of their losses by it."""
    rng, n = np.random.default_rng(0), len(v["dlog_variance"])
    v["mean"], v["x"] = rng.standard_normal((n, 5)), rng.standard_normal((n // case.option("samples"), 5))
    v["log_variance"] = np.array([[0.3]])
    gaussian_forward(
        None, None, v["dlog_variance"], v["mean"], v["x"], v["log_variance"], mean_over_rows=True, variance=1.0,
        samples=case.option("samples"),
    )  # fmt: skip


def variance_objective(case: Case, v: Values) -> float:
    loss = losses(case, v)
    return float(v["weight"] @ loss if case.has("weight") else loss.sum() / len(v["x"]))


def variance(rows: int, weighted: bool, samples: int = 1) -> Case:
    return Case(
        "gaussian_backward_variance", rows, {"n": f"{samples}*rows"}, "weighted" if weighted else "",
        inputs={"weight": positive}, absent=() if weighted else ("weight",), options={"samples": samples},
        prepare=add_derivatives, rounding=variance_rounding, objective=variance_objective if rows <= 16 else None,
        gradients={"dw": "log_variance"},
    )  # fmt: skip


CASES = [
    *(gaussian(*shape) for shape in SHAPES),
    *(gaussian(*shape, learned=-0.5) for shape in [(1, 1), (7, 17), (130, 33)]),
    gaussian(7, 17, variance=0.01),
    gaussian(7, 17, samples=5),
    gaussian(7, 17, samples=5, learned=1.0),
    gaussian(7, 17, mean_over_rows=False, learned=1.0),
    gaussian(7, 17, "loss alone", absent=("dmean",)),
    gaussian(7, 17, "gradient alone", absent=("loss",)),
    gaussian(7, 17, "no derivative", learned=0.25, absent=("dlog_variance",)),
    *(gaussian(7, 17, "edge", learned=v) for v in (-30.0, 20.0, -1e4, 1e4)),
    gaussian(17, 33, "wide", makers={"mean": wide(1e4), "x": wide(1e4)}),
    gaussian(17, 33, "met", makers={"mean": constant(0.25), "x": constant(0.25)}),
    gaussian(17, 33, "denormal", makers={"mean": denormal, "x": denormal}),
    *(variance(rows, weighted, samples) for rows in (1, 7, 130) for weighted in (False, True) for samples in (1, 5)),
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


@pytest.mark.parametrize("s", [1.0, 0.25, 3.0])
def test_reference_is_the_log_density(s):
    mean, x = np.random.default_rng(0).standard_normal((2, 3, 4))
    loss = np.empty(3)
    gaussian_forward(loss, None, None, mean, x, None, samples=1, mean_over_rows=True, variance=s)
    density = np.exp(-((mean - x) ** 2) / (2 * s)) / math.sqrt(2 * math.pi * s)
    assert_close(loss, -np.log(density).sum(1), Rounding(10.0), "float64")


@pytest.mark.parametrize(("learned", "moves"), [(-30.5, False), (-30.0, True), (0.0, True), (20.0, True), (20.5, False)])
@each_dtype
@each_set
def test_a_variance_outside_the_clamp_does_not_move(learned, moves, dtype, instruction_set):
    case = gaussian(3, 5, "clamp", learned=learned, makers={"mean": normal})
    assert (execute(case, dtype, instruction_set)["dlog_variance"] != 0).all() == moves


@each_dtype
@each_set
def test_nan_comes_through(dtype, instruction_set):
    mean = np.zeros((3, 17))
    mean[1, 16] = np.nan
    out = execute(gaussian(3, 17, "nan", makers={"mean": given(mean)}), dtype, instruction_set)
    assert np.isnan(out["loss"]).tolist() == [False, True, False]
    assert np.isnan(out["dmean"]).sum() == 1
