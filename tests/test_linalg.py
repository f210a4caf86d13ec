"""lc.svd and lc.eigh: what they take, what they return and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import each_dtype

import latentcore as lc
from latentcore import linalg
from latentcore.ops.svd import NOT_CONVERGED

RNG = np.random.default_rng(0)
BACKENDS = ("cpu", "reference")
LEADS = [(), (1,), (7,), (2, 3), (3, 1, 2), (0,), (2, 0), (0, 3)]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_lead = pytest.mark.parametrize("lead", LEADS, ids=str)


def close(got: np.ndarray, want: np.ndarray) -> bool:
    scale = np.abs(want).max(initial=0.0)
    return got.shape == want.shape and bool((np.abs(got - want) <= 100 * np.finfo(got.dtype).eps * scale).all())


# ---- what comes out --------------------------------------------------------------------------------------------------


@each_backend
@each_lead
@each_dtype
@pytest.mark.parametrize(("m", "n"), [(3, 3), (5, 2), (2, 5), (1, 1), (0, 3), (3, 0), (0, 0)])
def test_svd_has_the_shapes_and_dtypes_of_numpy(m, n, dtype, lead, backend):
    A = RNG.standard_normal((*lead, m, n)).astype(dtype)
    got, want = lc.svd(A, backend=backend), np.linalg.svd(A, full_matrices=False)
    assert isinstance(got, tuple)
    assert [x.shape for x in got] == [x.shape for x in want]
    alone = lc.svd(A, compute_uv=False, backend=backend)
    assert {x.dtype for x in (*got, alone)} == {np.dtype(dtype)}
    assert close(got[1], want[1])
    assert close(alone, want[1])
    assert close(got[0] * got[1][..., None, :] @ got[2], A)


@each_backend
@each_lead
@each_dtype
@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_eigh_has_the_shapes_and_dtypes_of_numpy(n, dtype, lead, backend):
    C = RNG.standard_normal((*lead, n, n)).astype(dtype)
    (w, v), want = lc.eigh(C, backend=backend), np.linalg.eigh(C)
    assert (w.shape, v.shape) == (want[0].shape, want[1].shape)
    alone = lc.eigh(C, eigenvectors=False, backend=backend)
    assert {x.dtype for x in (w, v, alone)} == {np.dtype(dtype)}
    assert close(w, want[0])
    assert close(alone, want[0])
    lower = np.tril(C)
    assert close((v * w[..., None, :]) @ np.swapaxes(v, -1, -2), lower + np.swapaxes(np.tril(lower, -1), -1, -2))


class ForeignArray:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def misaligned(a: np.ndarray) -> np.ndarray:
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    raw[:] = np.frombuffer(a.tobytes(), np.uint8)
    return raw.view(a.dtype).reshape(a.shape)


VIEWS = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, -1), 3, 0)[::3, ..., ::2],
    "transposed": lambda a: np.ascontiguousarray(np.swapaxes(a, -1, -2)).swapaxes(-1, -2),
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": misaligned,
    "list": np.ndarray.tolist,
    "DLPack": ForeignArray,
}


@each_backend
@pytest.mark.parametrize("view", VIEWS)
def test_any_array_is_taken_and_left_as_it_was(view, backend):
    A = RNG.standard_normal((5, 4, 4))
    given = VIEWS[view](A)
    for decompose in (lc.svd, lc.eigh):
        for got, want in zip(decompose(given, backend=backend), decompose(A.copy(), backend=backend)):
            assert got.tobytes() == want.tobytes()
            assert got.flags.c_contiguous
            assert got.flags.writeable
    back = given.array if isinstance(given, ForeignArray) else np.asarray(given)
    assert np.array_equal(back, A)


@each_backend
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "bool"])
def test_integers_become_float64(dtype, backend):
    A = RNG.integers(0, 2, (4, 5, 3)).astype(dtype)
    for got, want in zip(lc.svd(A, backend=backend), lc.svd(A.astype(np.float64), backend=backend)):
        assert got.dtype == np.float64
        assert got.tobytes() == want.tobytes()


@each_backend
def test_the_upper_triangle_is_not_read(backend):
    C = RNG.standard_normal((6, 9, 9))
    want = lc.eigh(C, backend=backend)
    C += np.triu(np.full((9, 9), np.nan), 1)
    for got, expected in zip(lc.eigh(C, backend=backend), want):
        assert got.tobytes() == expected.tobytes()


# ---- errors ----------------------------------------------------------------------------------------------------------


@each_backend
@pytest.mark.parametrize(("decompose", "name"), [(lc.svd, "A"), (lc.eigh, "C")])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad, decompose, name, backend):
    for lead, at, where in [((), (), ""), ((9,), (4,), " in matrix 4"), ((4, 2), (3, 1), r" in matrix \(3, 1\)")]:
        A = RNG.standard_normal((*lead, 5, 5))
        want = decompose(A, backend=backend)
        A[at][4, 2] = bad
        with pytest.raises(ValueError, match=f"^{name}: expected finite numbers, got NaN or infinity{where}$"):
            decompose(A, backend=backend)
        for got, expected in zip(decompose(A, validate=False, backend=backend), want):
            expected[at] = np.nan
            assert np.array_equal(got, expected, equal_nan=True)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("validate", [True, False])
def test_no_convergence_is_named(validate, backend, monkeypatch):
    """No matrix is known to need it."""
    status = np.zeros((3, 2), np.uint32)
    monkeypatch.setattr(linalg, "_solver", lambda *key: lambda a: (None, None, None, status))
    lc.svd(np.ones((3, 2, 4, 4)), validate=validate, backend=backend)
    status[2, 0] = NOT_CONVERGED
    with pytest.raises(np.linalg.LinAlgError, match=r"^A: the iteration does not converge in matrix \(2, 0\)$"):
        lc.svd(np.ones((3, 2, 4, 4)), validate=validate, backend=backend)


def test_the_first_bad_matrix_is_named():
    A = np.ones((50, 3, 3))
    A[[7, 20, 49]] = np.nan
    for backend in BACKENDS:
        with pytest.raises(ValueError, match=r"in matrix 7$"):
            lc.svd(A, backend=backend)
