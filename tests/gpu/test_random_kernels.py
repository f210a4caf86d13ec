"""The kernels that draw: Philox, the shuffle, and the rows of a minibatch."""

from __future__ import annotations

import numpy as np
import pytest
import test_gather
import test_random
import test_shuffle
from cases import DTYPES, each, given
from kernels import assert_agrees, execute

from latentcore.ops import Clock
from latentcore.ops.launches import launches_of
from latentcore.ops.shuffle import permutation
from latentcore.plan import Plan

LAST = {"seed": 2**64 - 1, "step": 2**32 - 1, "offset": 2**32 - 8}
CASES = [
    *(make(5, 259) for make in (test_random.uniform, test_random.normal)),
    *(make(7, 17, note="last", **LAST) for make in (test_random.uniform, test_random.normal)),
    test_shuffle.shuffle(130, 130),
    test_shuffle.shuffle(100, 2**31 + 5, 2**31 - 95, epoch=2**32 - 1, note="last"),
    test_shuffle.shuffle(1, 1, seed=2**64 - 1),
    test_gather.gather(33, 130, 17),
    test_gather.gather(3, 1030, 5),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("row", [17, 2**32 - 1])
def test_a_row_outside_the_data_is_an_error(row, backend):
    rows = np.arange(5)
    rows[4] = row
    with pytest.raises(IndexError, match="row"):
        execute(test_gather.gather(5, 3, 17, "outside", row=given(rows)), "float32", backend)


@pytest.mark.parametrize(("data_rows", "features", "offset", "rows"), [(70, 33, 40, 30), (5, 1030, 0, 3)])
def test_a_minibatch_is_one_launch(data_rows, features, offset, rows, backend):
    plan = Plan("minibatch")
    plan.input("data", data_rows, features)
    plan.output("row", "rows", dtype="uint32")
    plan.output("x", "rows", features)
    plan.call("shuffle_forward", row="row", n=data_rows)
    plan.call("gather_forward", y="x", x="data", row="row")
    assert len(launches_of(plan, rows)) == 1

    data = np.random.default_rng(0).standard_normal((data_rows, features), np.float32)
    arrays = {"data": data, "row": np.empty(rows, np.uint32), "x": np.empty((rows, features), np.float32)}
    backend.bind(plan, rows + 1, {}).run(arrays, Clock(rows, epoch=3, offset=offset, seed=test_shuffle.SEED))
    want = permutation(test_shuffle.SEED, 3, offset + np.arange(rows), data_rows)
    assert np.array_equal(arrays["row"], want)
    assert np.array_equal(arrays["x"], data[want])
