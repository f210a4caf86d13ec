"""Mean and Gram matrix of each of many groups of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import (
    SETS,
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
    sparse,
    wide,
)
from numerics import Rounding, assert_same_bits

SHAPES = [  # groups, features, rows
    (1, 1, 1), (3, 2, 30), (7, 3, 100), (16, 8, 1000), (33, 7, 500), (17, 16, 700), (5, 17, 90), (9, 33, 400),
    (4, 64, 300), (3, 65, 2500), (2, 130, 70),
]  # fmt: skip


def bounds(case: Case, v: Values) -> None:
    """Groups of different lengths, none of them empty, that overlap."""
    rng, n = np.random.default_rng(case.rows), len(v["x"])
    first, last = np.sort(rng.integers(0, n, (2, case.rows)), 0)
    if "begin" not in case.inputs:
        v["begin"], v["end"] = first, last + 1


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    groups = [v["x"][a:b] for a, b in zip(v["begin"], v["end"])]
    longest = max(map(len, groups))
    spread = [np.abs(x - mean) for x, mean in zip(groups, out["mean"])]
    size = np.array([c.T @ c for c in spread])
    middle = Rounding(np.array([np.abs(x).mean(0) for x in groups]), longest, "float64")
    between = np.array([len(x) * np.outer(e, e) for x, e in zip(groups, middle.tolerance("float64"))])
    gram = Rounding(size, 1 + min(longest, 128) // 4) + Rounding(between / np.finfo("float64").eps, dtype="float64")
    return {"mean": middle, "gram": gram}


def covariance(groups: int, features: int, rows: int, note: str = "", **makers: Any) -> Case:
    sizes = {"f": features, "n": rows}
    return Case("covariance_forward", groups, sizes, note, inputs=makers, prepare=bounds, rounding=rounding)


def offset(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 1e6 + rng.standard_normal(shape)


CASES = [
    *(covariance(*shape) for shape in SHAPES),
    covariance(9, 17, 300, "offset", x=offset),
    covariance(9, 17, 300, "sparse", x=sparse),
    covariance(9, 17, 300, "wide", x=wide(1e8)),
    covariance(9, 17, 300, "constant", x=constant(0.1)),
    covariance(9, 17, 300, "zero", x=constant(0)),
    covariance(9, 17, 300, "denormal", x=denormal),
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
def test_a_group_does_not_depend_on_its_companions_nor_on_its_place(dtype, instruction_set):
    x = np.random.default_rng(0).standard_normal((1500, 19))
    begin, end = np.arange(0, 1400, 100), np.arange(100, 1500, 100)
    many = covariance(14, 19, 1500, "many", x=given(x), begin=given(begin), end=given(end))
    whole = execute(many, dtype, instruction_set, threads=2)
    for i in (0, 5, 13):
        own = x[begin[i] : end[i]]
        one = covariance(1, 19, 100, f"alone {i}", x=given(own), begin=constant(0), end=constant(100))
        for name, got in execute(one, dtype, instruction_set).items():
            assert_same_bits(got[0], whole[name][i])


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_the_gram_matrices_are_symmetric(dtype, instruction_set):
    gram = execute(covariance(9, 33, 400, "symmetric"), dtype, instruction_set)["gram"]
    assert_same_bits(gram, gram.transpose(0, 2, 1).copy())


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_a_group_without_rows_has_no_mean(dtype, instruction_set):
    case = covariance(3, 5, 8, "empty", begin=given(np.array([0, 4, 8])), end=given(np.array([4, 4, 8])))
    got = execute(case, dtype, instruction_set)
    assert np.isfinite(got["mean"][0]).all()
    assert np.isnan(got["mean"][1:]).all()
    assert not got["gram"][1:].any()


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@pytest.mark.parametrize(("begin", "end"), [(3, 2), (0, 9), (9, 9), (0, 2**32 - 1)])
@pytest.mark.parametrize("place", [0, 3])
def test_a_group_outside_the_data_is_an_error(instruction_set, begin, end, place):
    first, last = np.zeros(4), np.full(4, 8)
    first[place], last[place] = begin, end
    with pytest.raises(IndexError, match="row"):
        execute(covariance(4, 3, 8, "outside", begin=given(first), end=given(last)), "float32", instruction_set)
