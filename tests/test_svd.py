"""The singular value decomposition, by its invariants: NumPy's vectors are not the only right ones."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cases import SETS, Case, each_dtype, each_set, execute, given, values_of
from matrices import (
    ENDS,
    FAMILIES,
    LARGEST,
    RUNS,
    SHARE,
    Batch,
    assert_accurate,
    assert_plain,
    assert_same_in_any_company,
    assert_signs,
    assert_spoilt_alone,
    bits,
    one_blas_thread,  # noqa: F401
    shuffled,
    solve,
)
from numerics import LEDGER

from latentcore.ops.svd import NOT_FINITE

COUNT = max(1, 84 // RUNS // SHARE)  # of each family and shape in each run: 10,000 of each family in all
LARGE = [(48, 48), (64, 64), (65, 65), (96, 96), (97, 97), (128, 128), (200, 200), (257, 257), (784, 64), (64, 640)]
LONG = [(1, 1000), (1000, 1), (300, 3), (4, 500), (129, 40), (40, 400)]


def shapes(n: int) -> list[tuple[int, int]]:
    """Square, tall and wide ones."""
    longer = n + 1 + 17 * n % 39
    return [(n, n), (longer, n), (n, longer)]


@functools.lru_cache(maxsize=4)
def drawn(m: int, n: int, dtype: str, count: int) -> Batch:
    batch = shuffled(FAMILIES, count, m, n, dtype)
    checked = batch.a[: len(FAMILIES) * 12].astype(np.float64)
    return Batch(batch.a, batch.family, np.linalg.svd(checked, compute_uv=False))


def assert_decomposes(batch: Batch, solver: str, threads: int = 1) -> None:
    a = batch.a
    u, s, vt, status = solve("svd", a, solver, threads=threads)
    (alone, status_alone) = solve("svd", a, solver, vectors=False, threads=threads)
    assert not status.any()
    assert not status_alone.any()
    assert_plain(u, s, vt, alone)
    assert_signs(vt)
    for values in (s, alone):
        assert (values >= 0).all()
        assert (np.diff(values) <= 0).all()
    left, values, right = (x.astype(np.float64) for x in (u, s, vt))
    one = np.eye(s.shape[1])
    errors = {
        "u": left.transpose(0, 2, 1) @ left - one,
        "vt": right @ right.transpose(0, 2, 1) - one,
        "a": (left * values[:, None, :]) @ right - a,
        "s": alone - values,
    }
    assert_accurate("svd", batch, values[:, 0], errors, solver)
    if batch.values is not None:
        assert_accurate("svd", batch, values[:, 0], {"s": values[: len(batch.values)] - batch.values}, solver)


@each_set
@each_dtype
@pytest.mark.parametrize("n", range(1, 41))
def test_small(n, dtype, instruction_set):
    for m, columns in shapes(n):
        batch = drawn(m, columns, dtype, COUNT * len(SETS))
        assert_decomposes(batch.part(SETS.index(instruction_set), len(SETS)), instruction_set)


@each_set
@each_dtype
@pytest.mark.parametrize(("m", "n"), LARGE + LONG)
def test_large(m, n, dtype, instruction_set):
    assert_decomposes(drawn(m, n, dtype, 1).part(0, SHARE), instruction_set, threads=2)


@each_set
@each_dtype
def test_at_the_limit(dtype, instruction_set):
    few = {name: FAMILIES[name] for name in ("random", "graded", "clustered")}
    assert_decomposes(shuffled(few, 1, LARGEST, LARGEST, dtype), instruction_set, threads=2)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_reference(n):
    for m, columns in shapes(n):
        assert_decomposes(drawn(m, columns, "float64", 5), "reference")


@each_set
def test_tolerance_is_tight(instruction_set):
    test_small(20, "float32", instruction_set)
    LEDGER.assert_tight({"svd_forward"})


@each_set
@each_dtype
@pytest.mark.parametrize("absent", [(), ("u", "vt")], ids=["vectors", "values"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 3), (8, 5), (5, 17), (33, 33), (70, 24), (24, 70), (100, 100)])
def test_memory(m, n, absent, dtype, instruction_set):
    """Nothing is read before it is written, nothing written outside the outputs; two threads give the same bits."""
    rng = np.random.default_rng(0)
    makers = {"a": given(rng.standard_normal((37, m, n)))}
    case = Case("svd_forward", 37, {"m": m, "n": n, "k": min(m, n)}, inputs=makers, absent=absent)
    got = execute(case, dtype, instruction_set)
    want = solve("svd", values_of(case, dtype)["a"], instruction_set, vectors=not absent)
    assert bits(tuple(got.values())) == bits(want)
    assert bits(tuple(execute(case, dtype, instruction_set, threads=2).values())) == bits(want)


SAME = [(1, 1), (3, 3), (8, 8), (17, 13), (13, 17), (32, 32), (70, 30), (64, 64), (65, 65), (100, 100), (300, 64)]


def some(m: int, n: int, dtype: str) -> np.ndarray:
    return drawn(m, n, dtype, 3 if m * n < 2000 else 1).a


@each_set
@each_dtype
@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "values"])
@pytest.mark.parametrize(("m", "n"), SAME)
def test_the_same_bits_in_any_company(m, n, vectors, dtype, instruction_set):
    assert_same_in_any_company("svd", some(m, n, dtype), instruction_set, vectors)


@each_set
@each_dtype
@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "values"])
@pytest.mark.parametrize(("m", "n"), SAME)
def test_what_is_not_finite_spoils_its_matrix_alone(m, n, vectors, dtype, instruction_set):
    assert_spoilt_alone("svd", some(m, n, dtype), instruction_set, vectors)


@each_set
@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_every_entry_is_looked_at(bad, dtype, instruction_set):
    rng = np.random.default_rng(0)
    for m, n in [(5, 5), (9, 4), (4, 9), (40, 33), (70, 66), (300, 70)]:
        places = np.append(rng.permutation(m * n)[: 98 // SHARE], [0, m * n - 1])
        a = np.ones((len(places), m, n), dtype)
        a.reshape(len(a), -1)[np.arange(len(a)), places] = bad
        for vectors in (True, False):
            assert (solve("svd", a, instruction_set, vectors=vectors)[-1] == NOT_FINITE).all()


@each_set
@each_dtype
def test_no_matrices(dtype, instruction_set):
    u, s, vt, status = solve("svd", np.empty((0, 5, 3), dtype), instruction_set)
    assert [x.shape for x in (u, s, vt, status)] == [(0, 5, 3), (0, 3), (0, 3, 3), (0,)]


@each_set
@each_dtype
def test_denormal_numbers_count_as_zero(dtype, instruction_set):
    a = np.full((20, 6, 4), np.finfo(dtype).tiny / 4, dtype)
    _, s, _, status = solve("svd", a, instruction_set)
    assert not s.any()
    assert not status.any()
    assert ENDS[dtype][0] > np.finfo(dtype).tiny
