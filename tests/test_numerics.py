"""The checkers themselves: what must fail, fails."""

from __future__ import annotations

import numpy as np
import pytest
from numerics import (
    CONSTANT,
    LOOSE,
    Ledger,
    Rounding,
    assert_close,
    assert_gradient,
    assert_same_bits,
    assert_ulps,
    error_ratio,
)

WANT = np.array([[1.0, -2.0, 0.0], [4.0, 0.5, -8.0]])
ONE = Rounding(np.abs(WANT))
CHECKERS = {
    "close": lambda got, want: assert_close(got, want, ONE, "float64"),
    "same bits": lambda got, want: assert_same_bits(got, want),
    "ulps": lambda got, want: assert_ulps(got, want, 4),
}


@pytest.fixture(params=CHECKERS.values(), ids=CHECKERS)
def check(request):
    return request.param


def test_the_truth_passes(check):
    check(WANT.copy(), WANT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_fails(check, value):
    got = WANT.copy()
    got[1, 2] = value
    with pytest.raises(AssertionError):
        check(got, WANT)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_on_both_sides_fails(check, value):
    both = WANT.copy()
    both[0, 0] = value
    with pytest.raises(AssertionError):
        check(both.copy(), both)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), (2, 1), ()])
def test_wrong_shape_fails(check, shape):
    with pytest.raises(AssertionError, match="shape"):
        check(np.resize(WANT, shape), WANT)


def test_nothing_fails(check):
    with pytest.raises(AssertionError, match="nothing"):
        check(WANT[:0], WANT[:0])


def test_wrong_dtype_fails():
    with pytest.raises(AssertionError, match="dtype"):
        assert_same_bits(WANT.astype(np.float32), WANT)


def test_sign_of_zero_is_a_bit():
    got = WANT.copy()
    got[0, 2] = -0.0
    assert_close(got, WANT, ONE, "float64")
    with pytest.raises(AssertionError, match="1 of 6 differ"):
        assert_same_bits(got, WANT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_is_the_model(dtype):
    eps = float(np.finfo(dtype).eps)
    got = WANT.copy()
    got[1, 0] += 4 * CONSTANT * eps
    assert error_ratio(got, WANT, ONE, dtype) == pytest.approx(1)
    assert error_ratio(got, WANT, Rounding(np.abs(WANT), 16), dtype) == pytest.approx(0.25)
    assert error_ratio(got, WANT, ONE + Rounding(np.full(WANT.shape, 12.0)), dtype) == pytest.approx(0.25)
    got[1, 0] += 4 * CONSTANT * eps
    with pytest.raises(AssertionError, match="2 times its tolerance"):
        assert_close(got, WANT, ONE, dtype)


def test_tolerance_that_is_not_finite_fails():
    with pytest.raises(AssertionError, match="tolerance"):
        assert_close(WANT, WANT, Rounding(np.inf), "float32")


def test_ulps_count_units_in_the_last_place():
    want = np.array([1.0, 3.0])
    got = want.astype(np.float32)
    got[1] += 5 * np.spacing(np.float32(3))
    assert_ulps(got, want, 5)
    with pytest.raises(AssertionError, match="5 units"):
        assert_ulps(got, want, 4)


X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])
GRADIENT = np.cos(X) + np.roll(X, 1, 0)


def function(values):
    return float(np.sin(values["x"]).sum() + values["x"][0] @ values["x"][1])


def test_right_gradient_passes():
    assert_gradient(function, {"x": X}, {"x": GRADIENT})


@pytest.mark.parametrize(
    "wrong",
    [
        GRADIENT * 1.01,
        -GRADIENT,
        GRADIENT + 1e-4,
        np.where(X == 2.0, np.nan, GRADIENT),
        np.where(X == 2.0, np.inf, GRADIENT),
        GRADIENT.T,
        GRADIENT[:1],
        np.zeros_like(GRADIENT),
    ],
    ids=["1 %", "sign", "offset", "nan", "inf", "transposed", "shape", "zero"],
)
def test_wrong_gradient_fails(wrong):
    with pytest.raises(AssertionError, match="d x"):
        assert_gradient(function, {"x": X}, {"x": wrong})


def test_one_wrong_entry_fails():
    wrong = GRADIENT.copy()
    wrong[np.unravel_index(np.abs(wrong).argmax(), wrong.shape)] *= 1.01
    with pytest.raises(AssertionError, match="d x"):
        assert_gradient(function, {"x": X}, {"x": wrong})


@pytest.mark.parametrize("gradient", [0.0, 1e-9])
def test_gradient_of_what_does_not_matter_fails(gradient):
    with pytest.raises(AssertionError, match="d y"):
        assert_gradient(function, {"x": X, "y": X}, {"y": np.full_like(X, gradient)})


def test_loose_tolerance_fails():
    ledger = Ledger()
    ledger.record("op", "tight", "float32", LOOSE, "a")
    ledger.record("op", "tight", "float32", LOOSE / 2, "b")
    ledger.record("op", "tight", "float64", 0.0, "c")
    ledger.record("other", "loose", "float32", LOOSE / 2, "a")
    ledger.assert_tight({"op"})
    ledger.record("op", "loose", "float32", LOOSE / 2, "a")
    with pytest.raises(AssertionError, match="op loose: "):
        ledger.assert_tight({"op"})


def test_an_op_without_cases_fails():
    ledger = Ledger()
    ledger.record("op", "y", "float32", 0.5, "a")
    with pytest.raises(AssertionError, match="no case of other"):
        ledger.assert_tight({"op", "other"})


def test_table_shows_the_worst_case():
    ledger = Ledger()
    for ratio, case in ((0.1, "a"), (0.7, "b"), (0.3, "c")):
        ledger.record("op", "y", "float32", ratio, case)
    (line,) = ledger.table()
    assert line.split() == ["op", "y", "float32", "0.700", "b"]
