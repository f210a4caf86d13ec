"""The kernels that move rows: by one vector, or by the affine map of their group."""

from __future__ import annotations

import numpy as np
import pytest
import test_affine
import test_shift
from cases import DTYPES, each, given
from kernels import assert_agrees, execute

CASES = [
    test_affine.affine(33, 40, 35, 4),
    test_affine.affine(17, 9, 17, 5, "mixed", group=lambda rng, shape: rng.integers(0, 5, shape)),
    test_affine.affine(7, 16, 15, 3, absent=("before", "after")),
    test_shift.shift(3, 150, subtract=True),
    test_shift.shift(35, 17),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("group", [3, 2**32 - 1])
def test_a_group_that_is_not_there_is_an_error(group, backend):
    case = test_affine.affine(5, 2, 4, 3, "outside", group=given(np.array([0, 1, group, 2, 2])))
    with pytest.raises(IndexError, match="row number"):
        execute(case, "float32", backend)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_its_companions(dtype, backend):
    rng = np.random.default_rng(0)
    x, group = rng.standard_normal((20, 5)), np.sort(rng.integers(0, 3, 20))
    maps = {"before": given(rng.standard_normal((3, 5))), "w": given(rng.standard_normal((3, 7, 5)))}
    maps["after"] = given(rng.standard_normal((3, 7)))

    def run(rows: list[int]) -> np.ndarray:
        case = test_affine.affine(len(rows), 7, 5, 3, x=given(x[rows]), group=given(group[rows]), **maps)
        return execute(case, dtype, backend)["y"]

    whole = run(list(range(20)))
    for rows in ([4], [19, 0, 7]):
        assert np.array_equal(run(rows), whole[rows])
