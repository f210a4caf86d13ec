"""The log density of probabilistic PCA, from codes and residuals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import (
    Case,
    Values,
    assert_agrees,
    assert_tight,
    constant,
    denormal,
    each,
    each_dtype,
    each_set,
    execute,
    given,
    positive,
    wide,
)
from numerics import Rounding, assert_close

SHAPES = [(1, 1, 1), (1, 784, 50), (3, 7, 2), (7, 15, 15), (16, 17, 8), (33, 63, 62), (130, 33, 9), (5, 4097, 3)]


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    z, variance, noise = v["z"], v["variance"], v["noise"][0]
    residual = sum(sign * v[name] for sign, name in ((1, "xc"), (-1, "xr")) if case.has(name))
    terms = z**2 / variance
    features = residual.shape[1] if np.ndim(residual) else z.shape[1]
    outside = features - z.shape[1]
    logs = np.abs(np.log(variance)).sum() + features * math.log(2 * math.pi)
    if outside:
        terms = np.hstack([terms, residual**2 / noise])
        logs += outside * abs(math.log(noise))
    squares = np.sqrt((terms**2).sum(1))
    return {"loglik": Rounding(squares, terms.shape[1], "float64") + Rounding(logs, dtype="float64")}


def density(rows: int, features: int, codes: int, note: str = "", absent=(), **makers) -> Case:
    return Case(
        "probabilistic_pca_forward", rows, {"f": features, "k": codes}, note, absent=absent, rounding=rounding,
        inputs={"variance": positive, "noise": positive, **makers},
    )  # fmt: skip


CASES = [
    *(density(*shape) for shape in SHAPES),
    density(33, 17, 5, absent=("xr",)),
    density(33, 17, 5, absent=("xc",)),
    density(33, 17, 17, absent=("xc", "xr")),
    density(9, 17, 17, "no noise", noise=constant(0)),
    density(9, 17, 5, "wide", xc=wide(1e15), xr=wide(1e15), z=wide(1e15), variance=constant(1e12), noise=constant(1e-9)),
    density(9, 17, 5, "zero", xc=constant(0), xr=constant(0), z=constant(0)),
    density(33, 17, 5, "denormal", xc=denormal, xr=denormal, z=denormal),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


@pytest.mark.parametrize("codes", [1, 4, 7])
@pytest.mark.parametrize("instruction_set", [None, *each_set.args[1]])
def test_it_is_the_density_of_a_normal_of_that_covariance(codes, instruction_set):
    rng = np.random.default_rng(codes)
    components = np.linalg.qr(rng.standard_normal((7, 7)))[0][:codes]
    variance, noise = np.linspace(5, 2, codes), 0.3
    covariance = components.T * (variance - noise) @ components + noise * np.eye(7)
    x = rng.standard_normal((11, 7))
    want = -0.5 * (
        7 * math.log(2 * math.pi)
        + np.linalg.slogdet(covariance)[1]
        + np.einsum("ri,ij,rj->r", x, np.linalg.inv(covariance), x)
    )
    z = x @ components.T
    arrays = {"xc": x, "xr": z @ components, "z": z, "variance": variance, "noise": np.array([noise])}
    case = density(11, 7, codes, "model", **{name: given(array) for name, array in arrays.items()})
    got = execute(case, "float64", instruction_set)["loglik"]
    assert_close(got, want, Rounding(10 * np.abs(want)), "float64")


@pytest.mark.parametrize("instruction_set", [None, *each_set.args[1]])
def test_a_small_residual_of_large_rows_keeps_its_digits(instruction_set):
    x = np.full((3, 5), 1e6, np.float32)
    near = x + np.float32(0.0625)
    arrays = {"xc": x, "xr": near, "z": np.zeros((3, 1)), "variance": np.ones(1), "noise": np.full(1, 1e-3)}
    case = density(3, 5, 1, "near", **{name: given(array) for name, array in arrays.items()})
    got = execute(case, "float32", instruction_set)["loglik"]
    want = -0.5 * (5 * math.log(2 * math.pi) + 4 * math.log(1e-3) + 5 * 0.0625**2 / 1e-3)
    assert_close(got, np.full(3, want), Rounding(abs(want)), "float64")
