"""The kernels of decompositions, by the invariants that every solver of small matrices keeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import matrices
import numpy as np
import pytest
import test_eigh
import test_svd
from cases import DTYPES, Case, each, given, values_of
from kernels import execute
from matrices import Batch, assert_spoilt_alone, bits, shuffled, solve

from latentcore.ops import svd_cuda

FEW = ("random", "rank n/2", "zero", "graded", "repeated", "duplicated")


def general(m: int, n: int, dtype: str, names: Sequence[str]) -> Batch:
    """A matrix of each family, and of both ends of the range."""
    batch = shuffled({name: matrices.FAMILIES[name] for name in names}, 1, m, n, dtype)
    return Batch(batch.a, batch.family, np.linalg.svd(batch.a.astype(np.float64), compute_uv=False))


def symmetric(n: int, dtype: str, names: Sequence[str]) -> Batch:
    batch = shuffled({name: test_eigh.SYMMETRIC[name] for name in names}, 1, n, n, dtype)
    return Batch(test_eigh.lower(batch.a), batch.family, np.linalg.eigvalsh(batch.a.astype(np.float64)))


def svd_case(m: int, n: int, *absent: str) -> Case:
    a = np.random.default_rng(0).standard_normal((1, m, n))
    return Case("svd_forward", 1, {"m": m, "n": n, "k": min(m, n)}, inputs={"a": given(a)}, absent=absent)


def eigh_case(n: int, *absent: str) -> Case:
    c = np.random.default_rng(0).standard_normal((1, n, n))
    return Case("eigh_forward", 1, {"n": n}, inputs={"c": given(c)}, absent=absent)


# The smallest of the kernels and the largest, with and without vectors.
CASES = [
    svd_case(6, 6), svd_case(17, 18), svd_case(6, 4, "u", "vt"),
    eigh_case(6), eigh_case(17), eigh_case(5, "v"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@each([*CASES, svd_case(2, 130), svd_case(10, 9), eigh_case(9)])
def test_memory(case, dtype, backend, monkeypatch):
    """Nothing is written outside the outputs, and whichever thread runs first, the bits are the same."""
    got, (a,) = execute(case, dtype, backend), values_of(case, dtype).values()
    if "simulator" in sys.modules:
        monkeypatch.setattr("simulator.ORDER", -1)
    again = solve(case.op.removesuffix("_forward"), a, backend, vectors=not case.absent)
    assert not again[-1].any()
    assert bits(tuple(got.values())) == bits(again)


@pytest.mark.parametrize(
    ("m", "n", "dtype", "names"),
    [
        (6, 6, "float32", [*matrices.FAMILIES]), (6, 6, "float64", FEW), (5, 3, "float32", FEW), (2, 4, "float64", FEW),
        (1, 1, "float32", FEW[:1]), (20, 4, "float64", FEW[:3]), (130, 2, "float32", FEW[:2]), (3, 130, "float64", FEW[1:2]),
    ],
)  # fmt: skip
def test_general(m, n, dtype, names, backend):
    test_svd.assert_decomposes(general(m, n, dtype, names), backend)


@pytest.mark.parametrize(
    ("n", "dtype", "names"),
    [
        (6, "float32", [*test_eigh.SYMMETRIC]), (6, "float64", FEW), (5, "float64", FEW), (3, "float32", FEW),
        (2, "float64", FEW), (1, "float32", FEW[:1]),
    ],
)  # fmt: skip
def test_symmetric(n, dtype, names, backend):
    test_eigh.assert_decomposes(symmetric(n, dtype, names), backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vectors", [True, False])
def test_what_is_not_finite_spoils_its_matrix_alone(vectors, dtype, backend):
    assert_spoilt_alone("svd", general(4, 3, dtype, FEW[:3]).a, backend, vectors)
    assert_spoilt_alone("eigh", symmetric(4, dtype, FEW[:3]).a, backend, vectors)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_takes_one_matrix_after_another(dtype, backend, monkeypatch):
    a = general(3, 4, dtype, FEW[:4]).a
    a[1, 2, 3] = np.nan
    want = solve("svd", a, backend)
    monkeypatch.setattr(svd_cuda, "_BLOCKS", 3)
    assert bits(solve("svd", a, backend)) == bits(want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_numbers_count_as_zero(dtype, backend):
    a = np.full((2, 3, 3), np.finfo(dtype).tiny / 4, dtype)
    u, s, vt, status = solve("svd", a, backend)
    w, v, status_eigh = solve("eigh", a, backend)
    assert not any(x.any() for x in (s, w, status, status_eigh))
    for x in (u, vt, v):
        assert np.array_equal(np.abs(x) @ np.ones(3), np.ones((2, 3)))
