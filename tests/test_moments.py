"""Count, mean and Gram matrix of rows, in one call and merged over many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import (
    SETS,
    Case,
    Maker,
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
    normal,
    sparse,
    wide,
)
from numerics import CONSTANT, Rounding, assert_close, assert_same_bits

# Rows whose products are added up in the dtype of the plan; so many of them, if equal, err like one that is not.
CHAIN, EVEN = 128, 8
EPS = float(np.finfo("float64").eps)
SHAPES = [  # rows, features
    (1, 1), (1, 7), (3, 2), (2, 17), (7, 16), (255, 15), (256, 9), (257, 33), (511, 48), (513, 49), (1025, 64),
    (2050, 65), (600, 130), (40, 300), (2500, 200),
    # Several rows make one of a panel.
    (5000, 1), (4097, 2), (1300, 5), (513, 7), (70_000, 3),
    # More rows than are merged at a time, by all threads together and each alone.
    (33_000, 130), (17_000, 40),
]  # fmt: skip


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A third of them 0, and the first 300."""
    w = np.maximum(rng.uniform(-1, 2, shape), 0)
    w[: min(300, len(w) - 1)] = 0
    return w


def offset(by: float) -> Maker:
    return lambda rng, shape: by + rng.standard_normal(shape)


def scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Columns of very different scales."""
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 10, shape[1])


def drifting(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape) + np.linspace(0, 1000, shape[0])[:, None]


def positive_definite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal((shape[0] + 3, shape[0]))
    return x.T @ x


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    x, length = v["x"], len(v["x"]) + 1
    w = v["weight"][:, None] if case.has("weight") else np.ones((len(x), 1))
    spread = np.sqrt(w) * np.abs(x - out["mean"])
    # Sums of magnitudes, not the root of squares: equal terms are rounded alike.
    moved, size = (w * np.abs(x)).sum(0), spread.T @ spread
    if "count" in v and v["count"][0]:
        moved += v["count"] * np.abs(v["mean"])
    middle = Rounding(moved / max(out["count"][0], 1.0), length, "float64")
    error, sums = middle.tolerance("float64"), np.sqrt(out["count"] * out["gram"].diagonal())
    between = np.outer(sums, error) + np.outer(error, sums) + out["count"] * np.outer(error, error)
    joined = Rounding(between / CONSTANT / EPS + np.abs(out["gram"]), dtype="float64")
    inside = Rounding(size, 1 + min(len(x), CHAIN) // EVEN) + Rounding(size, length, "float64")
    return {
        "count": Rounding(np.abs(out["count"]), dtype="float64"),
        "mean": middle,
        "gram": inside + joined,
    }


def moments(rows: int, features: int, note: str = "", *, weighted: bool = False, **makers: Any) -> Case:
    options = {"accumulate": "gram" in makers}
    absent = () if weighted else ("weight",)
    makers = {"weight": weights, **makers} if weighted else makers
    return Case(
        "moments_forward", rows, {"f": features}, note, options=options, absent=absent, inputs=makers, rounding=rounding
    )


def merged(rows: int, features: int, note: str = "", *, count: float = 50.0, **arguments: Any) -> Case:
    state = {"count": constant(count), "mean": normal, "gram": positive_definite}
    return moments(rows, features, f"merged {note}", **{**state, **arguments})


CASES = [
    *(moments(*shape) for shape in SHAPES),
    *(moments(*shape, weighted=True) for shape in SHAPES),
    *(merged(*shape) for shape in SHAPES),
    *(merged(*shape, weighted=True) for shape in SHAPES[::3]),
    merged(300, 17, "into nothing", count=0.0, mean=constant(np.nan), gram=constant(np.nan)),
    merged(300, 17, "without weight", weighted=True, weight=constant(0)),
    moments(300, 17, "without weight", weighted=True, weight=constant(0)),
    *(moments(700, 33, f"offset {by:g}", x=offset(by)) for by in (1e4, 1e6)),
    moments(700, 33, "scaled", x=scaled),
    moments(1300, 33, "drifting", x=drifting),
    *(moments(*shape, "sparse", x=sparse) for shape in [(700, 33), (1300, 5), (2500, 200)]),
    *(moments(*shape, "sparse", weighted=True, x=sparse) for shape in [(700, 33), (2500, 200)]),
    merged(700, 33, "sparse", weighted=True, x=sparse),
    moments(700, 33, "wide", x=wide(1e8)),
    moments(700, 33, "constant", x=constant(0.1)),
    moments(700, 33, "zero", x=constant(0)),
    moments(700, 33, "denormal", x=denormal),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_the_gram_matrix_is_symmetric(dtype, instruction_set):
    gram = execute(moments(600, 130, "symmetric"), dtype, instruction_set)["gram"]
    assert_same_bits(gram, gram.T)


@each_dtype
@each_set
def test_weights_of_one_change_no_bit(dtype, instruction_set):
    x = np.random.default_rng(0).standard_normal((1300, 33))
    plain = execute(moments(1300, 33, "plain", x=given(x)), dtype, instruction_set)
    weighted = execute(moments(1300, 33, "ones", weighted=True, x=given(x), weight=constant(1)), dtype, instruction_set)
    for name, want in plain.items():
        assert_same_bits(weighted[name], want)


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_a_whole_weight_is_so_many_rows(dtype, instruction_set):
    rng = np.random.default_rng(1)
    x, times = rng.standard_normal((100, 17)).astype(dtype), rng.integers(0, 4, 100)
    case = moments(100, 17, "repeated", weighted=True, x=given(x), weight=given(times))
    got = execute(case, dtype, instruction_set)
    want = execute(moments(times.sum(), 17, "repeated", x=given(np.repeat(x, times, 0))), "float64")
    assert got["count"][0] == times.sum()
    for name in ("mean", "gram"):
        assert_close(got[name], want[name], Rounding(np.abs(want["gram"]).max()), dtype)


@pytest.mark.parametrize("cuts", [(1,), (256, 300), (3, 4, 900, 1299)], ids=str)
@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_merging_is_exact_whatever_the_cuts(cuts, dtype, instruction_set):
    x = (1e6 + np.random.default_rng(2).standard_normal((1300, 33)) * np.linspace(0.1, 10, 33)).astype(dtype)
    whole = execute(moments(1300, 33, "whole", x=given(x)), "float64")
    state: dict[str, Any] = {"count": constant(0), "mean": constant(0), "gram": constant(0)}
    for piece in np.split(x, cuts):
        case = moments(len(piece), 33, f"piece of {cuts}", x=given(piece), **state)
        state = {name: given(array) for name, array in execute(case, dtype, instruction_set).items()}
    got = {name: make(np.random.default_rng(), whole[name].shape) for name, make in state.items()}
    assert got["count"][0] == 1300
    assert_close(got["mean"], whole["mean"], Rounding(1e6, 1300), "float64")
    size = np.sqrt(np.outer(whole["gram"].diagonal(), whole["gram"].diagonal()))
    assert_close(got["gram"], whole["gram"], Rounding(size, 16) + Rounding(size * 1e6, dtype="float64"), dtype)
