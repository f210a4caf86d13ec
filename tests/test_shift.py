"""Rows moved by one vector."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case, Values, assert_agrees, constant, denormal, each, each_dtype, each_set, execute, given, wide
from numerics import Rounding, assert_same_bits

SHAPES = [(1, 1), (1, 784), (3, 7), (7, 15), (16, 16), (33, 17), (130, 63), (5, 4097), (4000, 3)]


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"y": Rounding(np.abs(out["y"]))}


def shift(rows: int, features: int, note: str = "", subtract: bool = False, rounding=None, **makers) -> Case:
    options = {"subtract": subtract}
    return Case("shift_forward", rows, {"f": features}, note, inputs=makers, options=options, rounding=rounding)


# Rounded once, as the reference is: every bit is the same, but for those of numbers too small to be normal.
CASES = [
    *(shift(*shape, subtract=subtract) for shape in SHAPES for subtract in (False, True)),
    shift(17, 33, "wide", x=wide(1e15), by=wide(1e15)),
    shift(17, 33, "to zero", subtract=True, x=constant(0.1), by=constant(np.float32(0.1))),
    shift(33, 17, "denormal", subtract=True, rounding=rounding, x=denormal, by=denormal),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


@pytest.mark.parametrize("instruction_set", [None, *each_set.args[1]])
def test_data_with_an_offset_keeps_its_digits(instruction_set):
    rng = np.random.default_rng(0)
    x = (1e6 + rng.standard_normal((40, 19))).astype(np.float32)
    mean = x.mean(0, dtype=np.float64)
    case = shift(40, 19, "offset", subtract=True, x=given(x), by=given(mean))
    y = execute(case, "float32", instruction_set)["y"]
    assert_same_bits(y.astype(np.float32), (x.astype(np.float64) - mean).astype(np.float32))
