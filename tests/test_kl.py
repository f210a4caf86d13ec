"""The KL of a diagonal Gaussian to the standard normal."""

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
    smooth,
    wide,
)
from numerics import RUN, Rounding, assert_close, sum_in_runs

from latentcore.ops.kl import kl_forward

SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63), (2, 1000)]


def terms(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """The size of what each element's KL is a sum of."""
    v = np.clip(logvar, -30, 20)
    return 0.5 * (mu * mu + np.abs(np.expm1(v)) + np.abs(v))


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"kl": sum_in_runs(terms(v["mu"], v["logvar"]), RUN)}


def backward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {name: Rounding(np.abs(out[name])) for name in ("dmu", "dlogvar")}


def objective(case: Case, v: Values) -> float:
    kl = np.empty(len(v["mu"]))
    kl_forward(kl, v["mu"], v["logvar"])
    return float(v["dkl"] @ kl)


def forward(rows: int, latent: int, note: str = "", **makers) -> Case:
    return Case("kl_forward", rows, {"l": latent}, note, inputs=makers, rounding=forward_rounding)


def backward(rows: int, latent: int, note: str = "", **makers) -> Case:
    return Case(
        "kl_backward", rows, {"l": latent}, note, inputs=makers, rounding=backward_rounding,
        objective=None if note or rows > 16 else objective, gradients={"dmu": "mu", "dlogvar": "logvar"},
    )  # fmt: skip


CASES = [
    make(*shape, note, **makers)
    for make in (forward, backward)
    for shape, note, makers in [
        *((shape, "", {}) for shape in SHAPES),
        ((17, 33), "wide", {"logvar": wide(1e4), "mu": wide(1e4)}),
        ((17, 33), "edges", {"logvar": lambda rng, shape: rng.choice([-30.0, 20.0, -30.5, 20.5], shape)}),
        ((17, 33), "near the prior", {"logvar": wide(1e-3), "mu": wide(1e-3)}),
        ((17, 33), "the prior", {"logvar": constant(0), "mu": constant(0)}),
        ((17, 33), "denormal", {"logvar": denormal, "mu": denormal}),
    ]
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


@pytest.mark.parametrize(("mu", "logvar"), [(0.0, 0.0), (1.5, 0.3), (-0.7, -2.0), (3.0, 1.0)])
def test_reference_is_the_integral(mu, logvar):
    z, step = np.linspace(-40, 40, 200_001, retstep=True)
    log_q = -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar)
    integrand = np.exp(log_q) / np.sqrt(2 * np.pi) * (log_q + 0.5 * z * z)
    kl = np.empty(1)
    kl_forward(kl, np.array([[mu]]), np.array([[logvar]]))
    assert_close(kl, np.array([integrand.sum() * step]), Rounding(1.0, len(z)), "float64")


@each_dtype
@each_set
def test_the_prior_costs_nothing(dtype, instruction_set):
    case = forward(3, 17, "prior", mu=constant(0), logvar=constant(0))
    assert (execute(case, dtype, instruction_set)["kl"] == 0).all()


@pytest.mark.parametrize("argument", ["mu", "logvar"])
@each_dtype
@each_set
def test_nan_comes_through(argument, dtype, instruction_set):
    array = np.zeros((3, 17))
    array[1, 16] = np.nan
    kl = execute(forward(3, 17, "nan", **{argument: given(array)}), dtype, instruction_set)["kl"]
    assert np.isnan(kl[1])
    assert np.isfinite(kl[[0, 2]]).all()
