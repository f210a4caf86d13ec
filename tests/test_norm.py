"""The squared norm of gradients."""

from __future__ import annotations

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
    sparse,
    wide,
)
from numerics import Rounding, assert_close

from latentcore.backends import get_backend
from latentcore.ops import Clock
from latentcore.plan import Plan


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    g = v["g"]
    return {"squared": Rounding(np.sqrt((g**4).sum(keepdims=True)[0]), g.size, "float64")}


def norm(outputs: int, inputs: int, note: str = "", **makers) -> Case:
    return Case("norm_forward", 1, {"o": outputs, "i": inputs}, note, inputs=makers, rounding=rounding)


CASES = [
    *(norm(*shape) for shape in [(1, 1), (1, 0), (7, 1), (15, 7), (16, 16), (17, 33), (33, 63), (130, 130), (400, 63)]),
    norm(17, 33, "wide", g=wide(1e4)),
    norm(17, 33, "sparse", g=sparse),
    norm(17, 33, "zero", g=constant(0)),
    norm(17, 33, "denormal", g=denormal),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@each_dtype
def test_norm_adds_up_over_tensors(name, dtype):
    backend = get_backend(name)
    plan = Plan("norm", dtype)
    weights = [plan.weight("a", 17, 4), plan.weight("b", 3, 70)]
    plan.output("squared", 1, dtype="float64")
    for i, g in enumerate(weights):
        plan.call("norm_forward", squared="squared", g=g, accumulate=i > 0)
    state = {g: backend.allocate(plan.buffers[g]) for g in weights}
    rng, want = np.random.default_rng(0), 0.0
    for g in weights:
        array = rng.standard_normal((plan.buffers[g].array_shape(0)[0], plan.buffers[g].array_shape(0)[1] + 1))
        backend.put(state[g], array)
        want += (backend.get(state[g], plan.buffers[g]).astype(np.float64) ** 2).sum()
    squared = np.full(1, np.nan)
    backend.bind(plan, 1, state).run({"squared": squared}, Clock(1))
    assert_close(squared, np.array([want]), Rounding(want), "float64")
