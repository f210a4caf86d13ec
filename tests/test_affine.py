"""Rows of many groups, each with an affine map of its own."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case, Values, assert_agrees, assert_tight, each, each_dtype, each_set, execute, given, wide
from numerics import Rounding

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 2), (7, 16, 15, 3), (64, 17, 33, 4), (65, 8, 8, 2), (130, 63, 5, 9), (200, 130, 3, 1)]


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    x, w = v["x"] - v["before"][v["group"]] if case.has("before") else v["x"], v["w"][v["group"]]
    terms = w * x[:, None]
    scale = np.sqrt((terms * terms).sum(2)) + np.abs(out["y"])
    return {"y": Rounding(scale, terms.shape[2])}


def affine(rows: int, out: int, features: int, groups: int, note: str = "", absent: tuple[str, ...] = (), **makers) -> Case:
    makers.setdefault("group", lambda rng, shape: np.sort(rng.integers(0, groups, shape)))
    sizes = {"o": out, "i": features, "g": groups}
    return Case("affine_forward", rows, sizes, note, absent=absent, inputs=makers, rounding=rounding)


CASES = [
    *(affine(*shape) for shape in SHAPES),
    *(affine(*shape, absent=("after",)) for shape in SHAPES),
    *(affine(*shape, absent=("before",)) for shape in SHAPES),
    affine(33, 9, 17, 5, "mixed", group=lambda rng, shape: rng.integers(0, 5, shape)),
    affine(33, 9, 17, 5, "wide", x=wide(1e15), before=wide(1e15)),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


@each_dtype
@each_set
def test_a_row_does_not_depend_on_its_companions(dtype, instruction_set):
    rng = np.random.default_rng(0)
    x, group = rng.standard_normal((150, 21)), np.sort(rng.integers(0, 4, 150))
    maps = {"before": given(rng.standard_normal((4, 21))), "w": given(rng.standard_normal((4, 19, 21)))}
    maps["after"] = given(rng.standard_normal((4, 19)))
    whole = execute(affine(150, 19, 21, 4, x=given(x), group=given(group), **maps), dtype, instruction_set)["y"]
    for rows in ([0], range(70, 75), rng.permutation(150)):
        rows = list(rows)
        some = affine(len(rows), 19, 21, 4, x=given(x[rows]), group=given(group[rows]), **maps)
        assert np.array_equal(execute(some, dtype, instruction_set)["y"], whole[rows])


@pytest.mark.parametrize("instruction_set", [None, *each_set.args[1]])
@pytest.mark.parametrize("group", [3, 2**32 - 1])
def test_a_group_that_is_not_there_is_an_error(instruction_set, group):
    with pytest.raises(IndexError, match=r"row|index"):
        execute(affine(5, 2, 4, 3, "outside", group=given(np.array([0, 1, group, 2, 2]))), "float32", instruction_set)
