"""z = mu + e^(logvar / 2) * noise."""

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
    denormal,
    each,
    each_dtype,
    each_set,
    execute,
    given,
    normal,
    smooth,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits

from latentcore.ops.reparameterize import reparameterize_forward

SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63)]


def deviation(v: Values) -> np.ndarray:
    return np.exp(np.clip(v["logvar"], -30, 20) / 2)


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"z": Rounding(np.hypot(v["mu"], deviation(v) * v["noise"]))}


def backward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"dlogvar": Rounding(np.abs(out["dlogvar"]))}  # dmu is dz


def objective(case: Case, v: Values) -> float:
    z = np.empty_like(v["dz"])
    reparameterize_forward(z, v["mu"], v["logvar"], v["noise"])
    return float((v["dz"] * z).sum())


def add_mean(case: Case, v: Values) -> None:
    v["mu"] = np.ones_like(v["dz"])


def forward(rows: int, latent: int, note: str = "", **makers) -> Case:
    return Case("reparameterize_forward", rows, {"l": latent}, note, inputs=makers, rounding=forward_rounding)


def backward(rows: int, latent: int, note: str = "", **makers) -> Case:
    return Case(
        "reparameterize_backward", rows, {"l": latent}, note, inputs=makers, prepare=add_mean,
        rounding=backward_rounding,
        objective=None if note or rows > 16 else objective, gradients={"dmu": "mu", "dlogvar": "logvar"},
    )  # fmt: skip


CASES = [
    make(*shape, note, **makers)
    for make in (forward, backward)
    for shape, note, makers in [
        *((shape, "", {}) for shape in SHAPES),
        ((17, 33), "wide", {"logvar": wide(1e4)}),
        ((17, 33), "wide noise", {"logvar": wide(25), "noise": wide(1e4)}),
        ((17, 33), "edges", {"logvar": lambda rng, shape: rng.choice([-30.0, 20.0, -30.5, 20.5], shape)}),
        ((17, 33), "denormal", {"noise": denormal, "logvar": denormal}),
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


def test_reference_is_its_formula():
    mu, logvar, noise = np.random.default_rng(0).standard_normal((3, 1, 5))
    z = np.empty((1, 5))
    reparameterize_forward(z, mu, logvar, noise)
    want = [m + math.sqrt(math.exp(v)) * e for m, v, e in zip(mu[0], logvar[0], noise[0])]
    assert_close(z, np.array([want]), Rounding(np.abs(z) + 1), "float64")


@pytest.mark.parametrize("beyond", [1e-3, 1e4])
@each_dtype
@each_set
def test_no_gradient_outside_the_clamp(beyond, dtype, instruction_set):
    edge, outside = np.array([[-30.0, 20.0]]), np.array([[-30 - beyond, 20 + beyond]])
    inside, clamped = (
        execute(backward(1, 2, "clamp", logvar=given(v), noise=given(np.ones((1, 2)))), dtype, instruction_set)
        for v in (edge, outside)
    )
    assert (inside["dlogvar"] != 0).all()
    assert (clamped["dlogvar"] == 0).all()
    z = [execute(forward(1, 2, "clamp", mu=normal, logvar=given(v)), dtype, instruction_set)["z"] for v in (edge, outside)]
    assert_same_bits(z[1], z[0])
