"""The eigendecomposition of symmetric matrices, by its invariants. The upper triangles hold NaN."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from cases import SETS, Case, each_dtype, each_set, execute, given, values_of
from matrices import (
    FAMILIES,
    LARGEST,
    RUNS,
    SHARE,
    Batch,
    Maker,
    Random,
    assert_accurate,
    assert_plain,
    assert_same_in_any_company,
    assert_signs,
    assert_spoilt_alone,
    bits,
    normal,
    one_blas_thread,  # noqa: F401
    orthonormal,
    shuffled,
    solve,
)
from numerics import LEDGER

from latentcore.ops.svd import NOT_FINITE

COUNT = max(1, 252 // RUNS // SHARE)  # of each family and size in each run: 10,000 of each family in all
LARGE = (48, 64, 65, 96, 97, 128, 200, 257)


def of_eigenvalues(draw) -> Maker:
    def make(rng: Random, count: int, n: int, _: int) -> np.ndarray:
        vectors = orthonormal(rng, count, n, n)
        return (vectors * draw(rng, (count, 1, n))) @ vectors.transpose(0, 2, 1)

    return make


def of_rank(fraction: float) -> Maker:
    def make(rng: Random, count: int, n: int, _: int) -> np.ndarray:
        x = normal(rng, count, n, max(1, int(n * fraction)))
        return (x * rng.choice([-1.0, 1.0], (1, 1, x.shape[2]))) @ x.transpose(0, 2, 1)

    return make


SYMMETRIC: dict[str, Maker] = {
    **FAMILIES,
    "rank 1": of_rank(0),
    "rank n/2": of_rank(0.5),
    "repeated": of_eigenvalues(lambda rng, shape: rng.choice([-1.0, 0.5, 1.0, 3.0], shape)),
    "graded": of_eigenvalues(lambda rng, shape: rng.choice([-1.0, 1.0], shape) * np.logspace(0, -12, shape[2])),
    "clustered": of_eigenvalues(lambda rng, shape: 1 + 1e-15 * rng.integers(0, 9, shape)),
}


@functools.lru_cache(maxsize=4)
def drawn(n: int, dtype: str, count: int) -> Batch:
    """Lower triangles, NaN above them."""
    batch = shuffled(SYMMETRIC, count, n, n, dtype)
    checked = batch.a[: len(SYMMETRIC) * 12].astype(np.float64)
    return Batch(lower(batch.a), batch.family, np.linalg.eigvalsh(checked))


def lower(matrices: np.ndarray) -> np.ndarray:
    return matrices + np.triu(np.full(matrices.shape[1:], np.nan, matrices.dtype), 1)


def assert_decomposes(batch: Batch, solver: str, threads: int = 1) -> None:
    w, v, status = solve("eigh", batch.a, solver, threads=threads)
    alone, status_alone = solve("eigh", batch.a, solver, vectors=False, threads=threads)
    assert not status.any()
    assert not status_alone.any()
    assert_plain(w, v, alone)
    assert_signs(v.transpose(0, 2, 1))
    for values in (w, alone):
        assert (np.diff(values) >= 0).all()
    values, vectors = w.astype(np.float64), v.astype(np.float64)
    half = np.tril(batch.a).astype(np.float64)
    errors = {
        "v": vectors.transpose(0, 2, 1) @ vectors - np.eye(w.shape[1]),
        "c": (vectors * values[:, None, :]) @ vectors.transpose(0, 2, 1) - half - np.tril(half, -1).transpose(0, 2, 1),
        "w": alone - values,
    }
    largest = np.abs(values).max(1)
    assert_accurate("eigh", batch, largest, errors, solver)
    if batch.values is not None:
        assert_accurate("eigh", batch, largest, {"w": values[: len(batch.values)] - batch.values}, solver)


@each_set
@each_dtype
@pytest.mark.parametrize("n", range(1, 41))
def test_small(n, dtype, instruction_set):
    batch = drawn(n, dtype, COUNT * len(SETS))
    assert_decomposes(batch.part(SETS.index(instruction_set), len(SETS)), instruction_set)


@each_set
@each_dtype
@pytest.mark.parametrize("n", LARGE)
def test_large(n, dtype, instruction_set):
    assert_decomposes(drawn(n, dtype, 1).part(0, SHARE), instruction_set, threads=2)


@each_set
@each_dtype
def test_at_the_limit(dtype, instruction_set):
    few = {name: SYMMETRIC[name] for name in ("random", "graded", "clustered")}
    batch = shuffled(few, 1, LARGEST, LARGEST, dtype)
    assert_decomposes(Batch(lower(batch.a), batch.family), instruction_set, threads=2)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_reference(n):
    assert_decomposes(drawn(n, "float64", 5), "reference")


@each_set
def test_tolerance_is_tight(instruction_set):
    test_small(20, "float32", instruction_set)
    LEDGER.assert_tight({"eigh_forward"})


@each_set
@each_dtype
@pytest.mark.parametrize("absent", [(), ("v",)], ids=["vectors", "values"])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 33, 70, 100])
def test_memory(n, absent, dtype, instruction_set):
    """Nothing is read before it is written, nothing written outside the outputs; two threads give the same bits."""
    rng = np.random.default_rng(0)
    case = Case("eigh_forward", 37, {"n": n}, inputs={"c": given(rng.standard_normal((37, n, n)))}, absent=absent)
    got = execute(case, dtype, instruction_set)
    want = solve("eigh", values_of(case, dtype)["c"], instruction_set, vectors=not absent)
    assert bits(tuple(got.values())) == bits(want)
    assert bits(tuple(execute(case, dtype, instruction_set, threads=2).values())) == bits(want)


SAME = (1, 2, 3, 8, 17, 32, 64, 65, 100, 150)


def some(n: int, dtype: str) -> np.ndarray:
    return drawn(n, dtype, 3 if n < 40 else 1).a


@each_set
@each_dtype
@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "values"])
@pytest.mark.parametrize("n", SAME)
def test_the_same_bits_in_any_company(n, vectors, dtype, instruction_set):
    assert_same_in_any_company("eigh", some(n, dtype), instruction_set, vectors)


@each_set
@each_dtype
@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "values"])
@pytest.mark.parametrize("n", SAME)
def test_what_is_not_finite_spoils_its_matrix_alone(n, vectors, dtype, instruction_set):
    assert_spoilt_alone("eigh", some(n, dtype), instruction_set, vectors)


@each_set
@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_lower_triangle_is_looked_at(bad, dtype, instruction_set):
    rng = np.random.default_rng(0)
    for n in (5, 33, 70, 150):
        rows, columns = rng.permutation(np.transpose(np.tril_indices(n)))[: 100 // SHARE].T
        c = np.ones((len(rows), n, n), dtype)
        c[np.arange(len(rows)), rows, columns] = bad
        for vectors in (True, False):
            assert (solve("eigh", c, instruction_set, vectors=vectors)[-1] == NOT_FINITE).all()


@each_set
@each_dtype
def test_no_matrices(dtype, instruction_set):
    w, v, status = solve("eigh", np.empty((0, 3, 3), dtype), instruction_set)
    assert [x.shape for x in (w, v, status)] == [(0, 3), (0, 3, 3), (0,)]
