"""The rows of minibatches: a permutation for every size, seed and epoch, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from cases import SETS, Case, assert_agrees, each, each_dtype, each_set, execute

from latentcore.backends import get_backend
from latentcore.ops import Clock
from latentcore.ops.random import philox
from latentcore.ops.shuffle import permutation
from latentcore.plan import Plan

SEED = 0x1234_5678_9ABC_DEF0


def shuffle(rows: int, n: int, offset: int = 0, epoch: int = 0, seed: int = SEED, note: str = "") -> Case:
    clock = {"offset": offset, "epoch": epoch, "seed": seed}
    return Case("shuffle_forward", rows, {}, note, options={"n": n}, clock=clock)


CASES = [
    *(shuffle(n, n) for n in (1, 2, 3, 5, 17, 64, 65, 1000)),
    *(shuffle(100, 60_000, offset, note=f"from {offset}") for offset in (0, 1, 59_900)),
    *(shuffle(100, n, n - 100, note="last") for n in (2**24 + 1, 2**31, 2**31 + 5, 2**32 - 1)),
    *(shuffle(33, 33, epoch=epoch, note=f"epoch {epoch}") for epoch in (1, 2**31, 2**32 - 1)),
    *(shuffle(33, 33, seed=seed, note=f"seed {seed}") for seed in (0, 1, 2**32, 2**64 - 1)),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@pytest.mark.parametrize("sizes", [range(1, 71), [1000], [60_000]], ids=["1 to 70", "1000", "60000"])
def test_every_row_comes_once(instruction_set, sizes):
    for n in sizes:
        row = execute(shuffle(n, n), "float32", instruction_set)["row"]
        assert np.array_equal(np.sort(row), np.arange(n))


@each_set
def test_minibatches_are_pieces_of_the_epoch(instruction_set):
    whole = execute(shuffle(130, 130), "float32", instruction_set)["row"]
    for begin, rows in ((0, 16), (16, 16), (128, 2), (129, 1)):
        assert np.array_equal(
            execute(shuffle(rows, 130, begin), "float32", instruction_set)["row"], whole[begin : begin + rows]
        )


def test_epochs_and_seeds_differ():
    clocks = [(SEED, 0), (SEED, 1), (SEED, 2), (SEED + 1, 0), (SEED + 2**32, 0), (0, 0)]
    orders = [permutation(seed, epoch, np.arange(1000), 1000) for seed, epoch in clocks]
    for i, order in enumerate(orders):
        for other in [*orders[:i], np.arange(1000)]:
            assert np.count_nonzero(order == other) < 20  # independent ones agree in one place on average


def test_orders_are_even():
    # Each of 40 rows comes to each place in a fortieth of 10000 epochs, within 5.5 standard deviations.
    n, epochs = 40, 10_000
    plan = Plan("shuffle")
    plan.output("row", "rows", dtype="uint32")
    plan.call("shuffle_forward", row="row", n=n)
    bound = get_backend("cpu").bind(plan, n, {})
    orders = np.empty((epochs, n), np.uint32)
    for epoch, row in enumerate(orders):
        bound.run({"row": row}, Clock(n, epoch=epoch, seed=SEED))
    counts = np.array([np.bincount(place, minlength=n) for place in orders.T])
    assert np.abs(counts - epochs / n).max() < 5.5 * np.sqrt(epochs / n * (1 - 1 / n))


def test_keys_are_the_words_of_two_counters():
    # With n = 4 each half has one bit, so that the permutation can be followed by hand.
    words = philox(SEED, np.arange(2), np.array(0), np.array(3), np.array(0)).T.ravel()
    want = []
    for place in range(4):
        left, right = place >> 1, place & 1
        for key in map(int, words):
            f = (right ^ key) * 0x85EBCA6B % 2**32
            f = (f ^ f >> 15) * 0xC2B2AE35 % 2**32
            left, right = right, left ^ (f ^ f >> 13) & 1
        want.append(left << 1 | right)
    assert permutation(SEED, 3, np.arange(4), 4).tolist() == want
