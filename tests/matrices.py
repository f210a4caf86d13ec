"""Families of matrices that decompositions find hard, and what every decomposition must keep."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from cases import SETS
from numerics import DECOMPOSITION, LEDGER
from threadpoolctl import threadpool_limits

from latentcore.backends import Backend, get_backend
from latentcore.linalg import LIMIT, decomposition
from latentcore.ops.svd import NOT_FINITE

Random = np.random.Generator
Maker = Callable[[Random, int, int, int], np.ndarray]  # (rng, count, m, n) to (count, m, n)

# The runs of a shape: on each set, in each dtype.
RUNS = 2 * len(SETS)
SHARE = int(os.environ.get("LATENTCORE_TEST_SHARE", "1"))  # take one in so many: sanitizers are slow
LARGEST = LIMIT if SHARE == 1 else min(LIMIT, 384)  # of the columns of a matrix


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread() -> Iterator[None]:
    """NumPy's threads wait for one another where a machine has other work, and matrices are small."""
    with threadpool_limits(1):
        yield


def normal(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return rng.standard_normal((count, m, n))


def orthonormal(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """Random orthonormal columns, n <= m of them: one of a few each time."""
    few = np.linalg.qr(normal(rng, min(count, 8), m, n))[0]
    return few[rng.integers(0, len(few), count)]


def with_values(rng: Random, values: np.ndarray, m: int, n: int) -> np.ndarray:
    """Random matrices (count, m, n) of the given singular values (count, min(m, n))."""
    k = values.shape[1]
    left, right = orthonormal(rng, len(values), m, k), orthonormal(rng, len(values), n, k)
    return (left * values[:, None, :]) @ right.transpose(0, 2, 1)


def of_rank(fraction: float) -> Maker:
    def make(rng: Random, count: int, m: int, n: int) -> np.ndarray:
        rank = max(1, int(min(m, n) * fraction))
        return normal(rng, count, m, rank) @ normal(rng, count, rank, n)

    return make


def scaled(scale: float) -> Maker:
    return lambda rng, count, m, n: scale * normal(rng, count, m, n)


def of_entries(formula: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Maker:
    """The same matrix each time, from its indices, by a random factor."""

    def make(rng: Random, count: int, m: int, n: int) -> np.ndarray:
        i, j = np.arange(m)[:, None], np.arange(n)[None, :]
        return rng.uniform(0.5, 2, (count, 1, 1)) * (formula(i, j) + np.zeros((m, n)))

    return make


def _grades(k: int) -> np.ndarray:
    return np.logspace(0, -12, k)


def repeated(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return with_values(rng, rng.choice([0.5, 1.0, 3.0], (count, min(m, n))), m, n)


def graded(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return with_values(rng, np.tile(_grades(min(m, n)), (count, 1)), m, n)


def graded_rows(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return normal(rng, count, m, n) * rng.permutation(_grades(m))[:, None]


def graded_columns(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return normal(rng, count, m, n) * rng.permutation(_grades(n))


def zero_rows(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return normal(rng, count, m, n) * (rng.random((count, m, 1)) < 0.6)


def zero_columns(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return normal(rng, count, m, n) * (rng.random((count, 1, n)) < 0.6)


def kahan(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    sine, cosine = np.sin(1.2), np.cos(1.2)
    return np.where(i == j, 1.0, np.where(j > i, -cosine, 0.0)) * sine ** np.minimum(i, 300)


def sparse(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return normal(rng, count, m, n) * (rng.random((count, m, n)) < rng.uniform(0.05, 0.5, (count, 1, 1)))


def integers(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    return rng.integers(-1, 2, (count, m, n)).astype(np.float64)


def permuted(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """One entry in each row or column, of magnitudes that repeat."""
    made, k = np.zeros((count, m, n)), min(m, n)
    for matrix in made:
        matrix[rng.permutation(m)[:k], rng.permutation(n)[:k]] = rng.choice([-2.0, -1.0, 1.0, 1e-8], k)
    return made


def toeplitz(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    diagonals = normal(rng, count, m + n, 1)[..., 0]
    return diagonals[:, np.arange(m)[:, None] - np.arange(n) + n]


def duplicated(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """Columns that are copies of a few, some of them off by little."""
    made = normal(rng, count, m, n)[:, :, rng.integers(0, max(1, n // 3), n)]
    return made + rng.choice([0.0, 1e-9, 1e-4], (count, 1, n)) * normal(rng, count, m, n)


def banded(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """Upper bidiagonal, with zeros on both diagonals."""
    i, j = np.arange(m)[:, None], np.arange(n)
    return normal(rng, count, m, n) * ((j == i) | (j == i + 1)) * (rng.random((count, m, n)) < 0.8)


def blocks(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """Two blocks of magnitudes far apart."""
    i, j = np.arange(m)[:, None] < m // 2, np.arange(n) < n // 2
    return normal(rng, count, m, n) * np.where(i & j, 1.0, np.where(i | j, 0.0, 1e-9))


def clustered(rng: Random, count: int, m: int, n: int) -> np.ndarray:
    """Values that differ by a few units in the last place."""
    return with_values(rng, 1 + 1e-15 * rng.integers(0, 9, (count, min(m, n))), m, n)


FAMILIES: dict[str, Maker] = {
    "random": normal,
    "rank 1": of_rank(0),
    "rank n/2": of_rank(0.5),
    "zero": scaled(0.0),
    "ones": of_entries(lambda i, j: np.ones(())),
    "identity": of_entries(lambda i, j: i == j),
    "repeated": repeated,
    "graded": graded,
    "graded rows": graded_rows,
    "graded columns": graded_columns,
    "1e-30": scaled(1e-30),
    "1e30": scaled(1e30),
    "zero rows": zero_rows,
    "zero columns": zero_columns,
    "Hilbert": of_entries(lambda i, j: 1 / (i + j + 1)),
    "Kahan": of_entries(kahan),
    "Jordan": of_entries(lambda i, j: (i == j) * 1.0 + (j == i + 1)),
    "sparse": sparse,
    "integers": integers,
    "permuted": permuted,
    "Toeplitz": toeplitz,
    "duplicated": duplicated,
    "banded": banded,
    "blocks": blocks,
    "clustered": clustered,
}
ENDS = {"float32": (3e-37, 1e36), "float64": (1e-306, 1e300)}  # near the ends of the range


@dataclass(frozen=True)
class Batch:
    """Matrices (rows, m, n), the name of each one's family, and where that is known the values that NumPy finds in
    float64 for the first of them."""

    a: np.ndarray
    family: list[str]
    values: np.ndarray | None = None

    def part(self, index: int, of: int) -> Batch:
        values = None if self.values is None else self.values[index::of]
        return Batch(np.ascontiguousarray(self.a[index::of]), self.family[index::of], values)


def shuffled(makers: Mapping[str, Maker], count: int, m: int, n: int, dtype: str) -> Batch:
    """So many matrices of each family, and of the ends of the dtype's range, in one batch."""
    rng = np.random.default_rng(zlib.crc32(f"{count} {m} {n}".encode()))
    makers = {**makers, "near 0": scaled(ENDS[dtype][0]), "near infinity": scaled(ENDS[dtype][1])}
    order = rng.permutation(count * len(makers))
    made = np.concatenate([make(rng, count, m, n) for make in makers.values()])[order]
    names = list(makers)
    return Batch(made.astype(dtype), [names[i] for i in order // count])


def solver(
    op: str, m: int, n: int, dtype: str, on: str | Backend, *, capacity: int, vectors: bool = True, threads: int = 1
) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """A function to all outputs of "svd" or "eigh" from matrices (rows, m, n): by the reference, an
    instruction set, or a backend."""
    plan = decomposition(f"{op}_forward", m, n, dtype, vectors)
    how = {"threads": threads, "instruction_set": on} if on in SETS else {}
    backend = on if isinstance(on, Backend) else get_backend("cpu" if how else on)
    bound = backend.bind(plan, capacity, {}, **how)
    call, outputs = bound.stacked(), plan.of_role("output")

    def solve(a: np.ndarray) -> tuple[np.ndarray, ...]:
        out = tuple(np.full(b.array_shape(len(a)), 99 if b.dtype == "uint32" else np.nan, b.dtype) for b in outputs)
        return call(np.ascontiguousarray(a), out)

    return solve


def solve(op: str, a: np.ndarray, on: str | Backend, *, vectors: bool = True, threads: int = 1) -> tuple[np.ndarray, ...]:
    """All outputs over matrices (rows, m, n)."""
    rows, m, n = a.shape
    return solver(op, m, n, str(a.dtype), on, capacity=max(rows, 1), vectors=vectors, threads=threads)(a)


def bits(arrays: tuple[np.ndarray, ...]) -> list[bytes]:
    return [a.tobytes() for a in arrays]


def assert_same_in_any_company(op: str, a: np.ndarray, name: str, vectors: bool) -> None:
    """Raises AssertionError unless each matrix gets the same bits on any number of threads, in any part of the batch and
    in any order."""
    rows, m, n = a.shape
    want = solve(op, a, name, vectors=vectors)
    calls = [
        solver(op, m, n, str(a.dtype), name, capacity=2 * rows, vectors=vectors, threads=threads) for threads in (1, 2, 3)
    ]
    rng = np.random.default_rng(0)
    parts = [np.arange(rows)] * len(calls)
    parts += [np.arange(rows)[begin : begin + size] for size in (1, 2, 7, 16, 33) for begin in range(0, rows, size * SHARE)]
    parts += [rng.integers(0, rows, rng.integers(1, 2 * rows)) for _ in range(max(1, 6 // SHARE))]
    for i, part in enumerate(parts):
        assert bits(calls[i % len(calls)](a[part])) == bits(tuple(x[part] for x in want))


def assert_spoilt_alone(op: str, a: np.ndarray, on: str | Backend, vectors: bool) -> None:
    """Raises AssertionError unless NaN or infinity in a matrix, in its lower triangle, makes its outputs NaN and leaves
    the others' bits."""
    want = solve(op, a, on, vectors=vectors)
    rng = np.random.default_rng(0)
    bad, a = rng.random(len(a)) < 0.3, a.copy()
    bad[rng.integers(len(a))] = True
    for i in np.flatnonzero(bad):
        row = rng.integers(a.shape[1])
        a[i, row, rng.integers(min(row + 1, a.shape[2]))] = rng.choice([np.nan, np.inf, -np.inf])
    *got, status = solve(op, a, on, vectors=vectors)
    assert (status == np.where(bad, NOT_FINITE, 0)).all()
    for x, y in zip(got, want):
        assert np.isnan(x[bad]).all()
        assert x[~bad].tobytes() == y[~bad].tobytes()


def assert_plain(*arrays: np.ndarray) -> None:
    """Raises AssertionError for what is not finite, and for -0."""
    for a in arrays:
        assert np.isfinite(a).all()
        assert not (np.signbit(a) & (a == 0)).any()


def assert_signs(vectors: np.ndarray) -> None:
    """Raises AssertionError unless in each row the entry of largest magnitude, the first of equals, is positive."""
    at = np.abs(vectors).argmax(-1)[..., None]
    assert (np.take_along_axis(vectors, at, -1) > 0).all()


def assert_accurate(op: str, batch: Batch, largest: np.ndarray, errors: Mapping[str, np.ndarray], on: str | Backend) -> None:
    """Raises AssertionError where the Frobenius norm of an error (rows, ...) exceeds the rounding model: of "a" and of
    values ("s", "w") relative to the largest value. Records the part of it that was used."""
    m, n = batch.a.shape[1:]
    limits = np.finfo(batch.a.dtype)
    rounding = DECOMPOSITION * float(limits.eps) * np.sqrt(max(m, n))
    for name, error in errors.items():
        if name in ("a", "c", "s", "w"):
            flushed = np.sqrt(m * n) * float(limits.tiny)
            scale = np.maximum(largest, float(limits.tiny))[: len(error)]
            error, floor = error / scale.reshape(-1, *[1] * (error.ndim - 1)), flushed / scale
        else:
            floor = 0.0
        assert np.isfinite(error).all(), name
        flat = error.reshape(len(error), -1)
        ratio = np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)) - floor, 0) / rounding
        worst = int(ratio.argmax())
        case = f"{batch.family[worst]}, {m} x {n} on {on if isinstance(on, str) else on.name}"
        LEDGER.record(f"{op}_forward", name, str(batch.a.dtype), float(ratio[worst]), case)
        assert ratio[worst] <= 1, f"{name}: {ratio[worst]:.3g} times its tolerance in matrix {worst} ({case})"
