"""The door: what is taken as it is, what is copied once, what is refused."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentcore.checks import (
    as_array,
    check_array,
    check_bool,
    check_int,
    check_option,
    check_path,
    check_real,
    check_seed,
    check_weights,
    kept_dtype,
    not_fitted,
    shown,
)

RNG = np.random.default_rng(0)
PLAIN = RNG.random((5, 3))


class Dlpack:
    """An array of another library that speaks DLPack alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers, a byte off."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
    shifted = np.ndarray(array.shape, array.dtype, buffer=raw, offset=1)
    assert not shifted.flags.aligned
    return shifted


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


SAME: dict[str, Any] = {
    "list": PLAIN.tolist(),
    "tuple of arrays": tuple(PLAIN),
    "Fortran order": np.asfortranarray(PLAIN),
    "transposed": PLAIN.T.copy().T,
    "strided": np.repeat(np.repeat(PLAIN, 2, 0), 3, 1)[::2, ::3],
    "reversed": PLAIN[::-1, ::-1].copy()[::-1, ::-1],
    "misaligned": misaligned(PLAIN),
    "big endian": PLAIN.astype(">f8"),
    "long double": PLAIN.astype(np.longdouble),
    "matrix": np.ndarray.view(PLAIN, np.recarray),
    "DLPack": Dlpack(np.asfortranarray(PLAIN)),
    "objects": PLAIN.astype(object),
}


@pytest.mark.parametrize("how", SAME)
def test_array_like(how: str) -> None:
    got = check_array(SAME[how], "X", "float64")
    assert got.flags.c_contiguous
    assert got.flags.aligned
    assert got.dtype == np.dtype("float64")
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, PLAIN)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", ">i4"])
def test_dtypes(dtype: str) -> None:
    given = (PLAIN * 2).astype(dtype)
    np.testing.assert_array_equal(check_array(given, "X", "float32"), given.astype("float32"))


def test_what_fits_is_used_in_place() -> None:
    for given in (PLAIN, read_only(PLAIN), PLAIN[1:4], PLAIN[:0]):
        assert np.shares_memory(check_array(given, "X", "float64", empty=True), given) or given.size == 0
    assert np.shares_memory(check_array(Dlpack(PLAIN), "X", "float64"), PLAIN)
    assert not np.shares_memory(check_array(PLAIN, "X", "float32"), PLAIN)


def test_objects_are_numbers_or_refused() -> None:
    mixed = np.array([[True, np.float32(0.5), 10**400], [-(10**400), Fraction(1, 4), 2**60]], object)
    np.testing.assert_array_equal(as_array(mixed, "X"), [[1, 0.5, np.inf], [-np.inf, 0.25, 2.0**60]])
    for wrong, says in (("1", "'1' is text"), (b"1", "b'1' is text"), (None, "NoneType"), ({}, "dict"), (1j, "complex")):
        with pytest.raises(TypeError, match=f"X: expected a dense array of real numbers, got dtype object: .*{says}"):
            as_array(np.array([1.0, wrong], object), "X")


def test_errors_name_the_estimator_that_expects() -> None:
    with pytest.raises(
        ValueError, match=r"^A: expected 2 .*, got 3 \(.*\); A has 3 features, but M is expecting 2 features"
    ):
        check_array(PLAIN, "A", "float64", features=2, estimator="M")
    with pytest.raises(ValueError, match=r"^A: expected 2 features, got 3 \(shape \(5, 3\)\)$"):
        check_array(PLAIN, "A", "float64", features=2)


def test_validate_false_skips_the_numbers_alone() -> None:
    bad = np.array([[np.nan, np.inf, 7.0]])
    np.testing.assert_array_equal(check_array(bad, "X", "float64", validate=False, unit_interval=True), bad)
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        check_array(bad, "X", "float64", features=2, validate=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 7, 14])
def test_one_bad_number_is_found(bad: float, at: int) -> None:
    given = PLAIN.copy()
    given.flat[at] = bad
    for dtype in ("float32", "float64"):
        with pytest.raises(ValueError, match="X: expected finite numbers in " + dtype):
            check_array(given, "X", dtype)


def test_unit_interval() -> None:
    ends = np.array([[0.0, 1.0, -0.0]])
    check_array(ends, "X", "float32", unit_interval=True)
    for bad, hint in ((np.nextafter(1, 2), True), (255, True), (256, False), (-1e-9, False)):
        with pytest.raises(ValueError, match=r"X: expected data in \[0, 1\]") as caught:
            check_array(np.array([[0.5, bad]]), "X", "float64", unit_interval=True)
        assert ("dividing by 255" in str(caught.value)) == hint


def test_as_array_says_why() -> None:
    class Failing:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise ValueError("out of date")

    with pytest.raises(ValueError, match=r"z: expected an array of real numbers, got a Failing \(out of date\)"):
        as_array(Failing(), "z")


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers(value: Any) -> None:
    assert check_int(value, "n", 0) == 3
    assert type(check_int(value, "n", 0)) is int
    with pytest.raises(ValueError, match="n: expected an integer at least 4, got 3"):
        check_int(value, "n", 4)
    with pytest.raises(ValueError, match="n: expected an integer from 0 to 2, got 3"):
        check_int(value, "n", 0, 2)


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, [3], np.array([3])])
def test_no_integers(value: Any) -> None:
    with pytest.raises(TypeError, match="n: expected an integer, got"):
        check_int(value, "n", 0)


def test_reals() -> None:
    for value in (0.5, np.float32(0.5), np.float64(0.5)):
        assert check_real(value, "r", 0) == 0.5
    assert check_real(2, "r", 0, 2) == 2.0
    for value in (-1, 3, np.nan, np.inf, -np.inf, 10**400):
        with pytest.raises(ValueError, match="r: expected a finite number at least 0, at most 2, got"):
            check_real(value, "r", 0, 2)
    with pytest.raises(ValueError, match="r: expected a finite number above 0, got 0"):
        check_real(0, "r", 0, above=True)
    for value in (True, "1", None, 1j, [1.0]):
        with pytest.raises(TypeError, match="r: expected a number, got"):
            check_real(value, "r", 0)


def test_options_and_booleans() -> None:
    assert check_option("b", "o", ("a", "b")) == "b"
    for value in ("c", None, ["a"], 1, ""):
        with pytest.raises(ValueError, match="o: expected one of 'a', 'b', got"):
            check_option(value, "o", ("a", "b"))
    assert check_bool(np.True_, "b") is True
    for value in (1, "True", None):
        with pytest.raises(TypeError, match="b: expected True or False, got"):
            check_bool(value, "b")


def test_weights() -> None:
    weights = check_weights([1, 0, 2.5], 3)
    assert weights.dtype == np.float64
    np.testing.assert_array_equal(weights, [1, 0, 2.5])
    for value, says in (
        ([1, 2], r"expected shape \(3,\), got \(2,\)"),
        ([[1, 2, 3]], r"expected shape \(3,\), got \(1, 3\)"),
        ([1, -1, 2], "expected finite numbers of at least 0, got -1"),
        ([1, np.nan, 2], "expected finite numbers of at least 0, got nan"),
        ([1, np.inf, 2], "expected finite numbers of at least 0, got inf"),
    ):
        with pytest.raises(ValueError, match=f"^sample_weight: {says}$"):
            check_weights(value, 3)
    with pytest.raises(TypeError, match=r"^w: expected a dense array of real numbers, got dtype <U1$"):
        check_weights(["a", "b", "c"], 3, "w")


def test_float32_alone_is_kept() -> None:
    kept = {dtype: kept_dtype(np.zeros(1, dtype)) for dtype in ("float32", ">f4", "float64", "float16", "int32", "bool")}
    assert kept == {**dict.fromkeys(kept, "float64"), "float32": "float32", ">f4": "float32"}


def test_seeds() -> None:
    assert check_seed(2**64 - 1) == 2**64 - 1
    assert len({check_seed(None) for _ in range(4)}) == 4
    for make in (np.random.default_rng, np.random.RandomState):
        assert check_seed(make(3)) == check_seed(make(3)) != check_seed(make(4))
        drawn = make(3)
        assert check_seed(drawn) != check_seed(drawn)
    for value in (-1, 2**64):
        with pytest.raises(ValueError, match="random_state: expected an integer from 0 to"):
            check_seed(value)


def test_paths(tmp_path: Path) -> None:
    for value in ("a/b", b"a/b", Path("a/b")):
        assert check_path(value) == Path("a/b")
    for value in (3, None, True, ["a"]):
        with pytest.raises(TypeError, match=r"path: expected a str, bytes or os\.PathLike, got"):
            check_path(value)
    for value in ("", b"", "a\0b"):
        with pytest.raises(ValueError, match="path: expected the name of a file, got"):
            check_path(value)


def test_shown_is_one_short_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert "\n" not in shown(np.zeros((30, 30)))
    assert len(shown("x" * 10_000)) <= 100
    assert shown(1 << 20_000) == "an integer of 20001 bits"
    assert shown(2**64) == str(2**64)


def test_not_fitted_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    error = not_fitted([])
    assert type(error).__name__ == "NotFittedError"
    assert type(error).__mro__[1:3] == (ValueError, AttributeError)
    assert str(error) == "this list has no weights yet: call fit, lc.train or initialize first"


def test_not_fitted_tells_what_helps() -> None:
    assert str(not_fitted([], "components", "fit")) == "this list has no components yet: call fit first"


def test_not_fitted_is_that_of_scikit_learn() -> None:
    exceptions = pytest.importorskip("sklearn.exceptions")
    assert isinstance(not_fitted([]), exceptions.NotFittedError)
