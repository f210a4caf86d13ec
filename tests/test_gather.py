"""Rows by number."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case, assert_agrees, each, each_dtype, each_set, execute, given


def gather(rows: int, features: int, data: int, note: str = "", **makers) -> Case:
    makers.setdefault("row", lambda rng, shape: rng.integers(0, data, shape))
    return Case("gather_forward", rows, {"f": features, "n": data}, note, inputs=makers)


CASES = [
    *(gather(*shape) for shape in [(1, 1, 1), (3, 7, 5), (16, 15, 130), (130, 33, 17), (63, 130, 64), (7, 4097, 3)]),
    gather(40, 17, 33, "one row", row=lambda rng, shape: np.full(shape, 32)),
    gather(33, 17, 33, "permuted", row=lambda rng, shape: rng.permutation(33)),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


@pytest.mark.parametrize("instruction_set", [None, *each_set.args[1]])
@pytest.mark.parametrize("row", [17, 2**31, 2**32 - 1])
@pytest.mark.parametrize("place", [0, 4])
def test_a_row_outside_the_data_is_an_error(instruction_set, row, place):
    rows = np.arange(5)
    rows[place] = row
    with pytest.raises(IndexError, match=r"row|index"):
        execute(gather(5, 3, 17, "outside", row=given(rows)), "float32", instruction_set)
