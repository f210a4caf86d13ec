"""The kernels of losses, bounds, objectives, scores and norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import test_bernoulli
import test_gaussian
import test_importance
import test_norm
import test_objective
import test_probabilistic_pca
from cases import DTYPES, Case, Values, constant, each, positive
from kernels import assert_agrees, execute
from numerics import Rounding

from latentcore.backends import NonFiniteError


def accumulated(case: Case) -> Case:
    """A norm that is added to one before."""

    def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
        scale = np.sqrt((v["g"] ** 4).sum() + v["squared"] ** 2)
        return {"squared": Rounding(scale, v["g"].size + 1, "float64")}

    return replace(case, options={"accumulate": True}, inputs={"squared": positive}, rounding=rounding)


CASES = [
    test_bernoulli.bernoulli(2, 530),
    test_bernoulli.bernoulli(35, 17, samples=2, mean_over_rows=False),
    test_bernoulli.bernoulli(7, 17, "no gradient", absent=("dlogits",)),
    test_bernoulli.bernoulli(7, 17, "no loss", absent=("loss",)),
    test_gaussian.gaussian(2, 530, variance=0.01),
    test_gaussian.gaussian(35, 17, learned=1.0, samples=2, mean_over_rows=False),
    test_gaussian.gaussian(7, 17, "edge", learned=1e4),
    test_gaussian.variance(700, weighted=False, samples=3),
    test_gaussian.variance(7, weighted=True, samples=5),
    test_importance.forward(3, 530),
    test_importance.forward(70, 5, mean_over_rows=False),
    test_importance.forward(7, 5, "bound alone", absent=("weight",)),
    test_importance.backward(3, 150),
    test_importance.backward(35, 17, samples=2),
    test_objective.objective(1030, absent=("bound",)),
    test_objective.objective(17, free_bits=0.25, absent=("bound",)),
    test_objective.objective(17, samples=5, absent=("kl_dim",)),
    test_objective.score(3, 530, absent=("kl",)),
    test_objective.score(70, 5),
    test_norm.norm(17, 33),
    test_norm.norm(130, 63),
    accumulated(test_norm.norm(130, 63, "accumulated")),
    accumulated(test_norm.norm(17, 33, "accumulated")),
    test_probabilistic_pca.density(9, 300, 5),
    test_probabilistic_pca.density(33, 17, 5, absent=("xr",)),
    test_probabilistic_pca.density(9, 17, 17, "no noise", noise=constant(0)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("argument", "absent"),
    [("recon", ("bound",)), ("kl_dim", ("bound",)), ("bound", ()), ("recon", ()), ("kl_dim", ()), ("beta", ("bound",))],
    ids=["recon", "kl", "bound", "recon beside a bound", "kl beside a bound", "beta"],
)
def test_an_objective_that_is_not_finite_ends_the_run(value, argument, absent, backend):
    def spoilt(rng, shape):
        array = rng.standard_normal(shape)
        array[-1] = value
        return array

    with pytest.raises(NonFiniteError, match="objective_forward"):
        execute(test_objective.objective(5, "spoilt", absent=absent, **{argument: spoilt}), "float32", backend)


@pytest.mark.parametrize(
    ("case", "argument", "gradient"),
    [
        (test_bernoulli.bernoulli(3, 17, "nan"), "logits", "dlogits"),
        (test_gaussian.gaussian(3, 17, "nan"), "mean", "dmean"),
    ],
    ids=["bernoulli", "gaussian"],
)
def test_nan_comes_through(case, argument, gradient, backend):
    def spoilt(rng, shape):
        array = np.zeros(shape)
        array[1, -1] = np.nan
        return array

    out = execute(replace(case, inputs={**case.inputs, argument: spoilt}), "float32", backend)
    assert np.isnan(out["loss"]).tolist() == [False, True, False]
    assert np.isnan(out[gradient]).sum() == 1


@pytest.mark.parametrize("argument", ["loss", "log_ratio"])
def test_nan_comes_through_a_bound(argument, backend):
    def spoilt(rng, shape):
        array = np.zeros(shape)
        array[9] = np.nan
        return array

    bound = execute(test_importance.forward(3, 5, "nan", **{argument: spoilt}), "float32", backend)["bound"]
    assert np.isnan(bound).tolist() == [False, True, False]
