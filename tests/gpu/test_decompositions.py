"""SVD and eigh on the GPU backend."""

from __future__ import annotations

import numpy as np
import pytest
from place import Foreign, X, near

import latentcore as lc
from latentcore import linalg
from latentcore.backends.cuda import CudaBackend

pytestmark = pytest.mark.usefixtures("place", "few_rows_at_a_time")


SHAPES = [(2, 3, 2), (2, 1, 2, 2), (2, 3), (0, 3, 3), (2, 0, 3), (2, 3, 0)]


@pytest.fixture(params=["kernels", "cuSOLVER"])
def solver(request, monkeypatch):
    """By kernels, and by what stands for cuSOLVER."""
    if request.param == "cuSOLVER":
        monkeypatch.setattr(CudaBackend, "serves", lambda *_: False)
    linalg._solver.cache_clear()
    yield request.param
    linalg._solver.cache_clear()


def assert_orthonormal(columns: np.ndarray, bound: float) -> None:
    near(
        columns.swapaxes(-2, -1) @ columns,
        np.broadcast_to(np.eye(columns.shape[-1]), columns.shape[:-2] + columns.shape[-1:] * 2),
        bound,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_svd(shape, dtype, solver, place):
    A = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    S, bound = lc.svd(A, compute_uv=False), 200 * float(np.finfo(dtype).eps)
    for given, kind in ((A, np.ndarray), (place.put(A), place.kind)):
        found = lc.svd(given, backend="cuda")
        values = lc.svd(given, backend="cuda", compute_uv=False)
        assert [type(each) for each in (*found, values)] == [kind] * 4
        u, s, vt = map(place.read, found)
        assert s.dtype == u.dtype == vt.dtype == dtype
        near(s, S, bound)
        near(place.read(values), S, bound)
        near((u * s[..., None, :]) @ vt, A, bound)
        assert_orthonormal(u, bound)
        assert_orthonormal(vt.swapaxes(-2, -1), bound)
        assert not vt.size or (np.take_along_axis(vt, np.abs(vt).argmax(-1)[..., None], -1) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 2), (0, 2, 2)], ids=str)
def test_eigh(shape, dtype, solver, place):
    C = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    whole = np.tril(C) + np.tril(C, -1).swapaxes(-2, -1)
    W, bound = lc.eigh(C, eigenvectors=False), 200 * float(np.finfo(dtype).eps)
    for given, kind in ((C, np.ndarray), (place.put(C), place.kind)):
        found, values = lc.eigh(given, backend="cuda"), lc.eigh(given, backend="cuda", eigenvectors=False)
        assert [type(each) for each in (*found, values)] == [kind] * 3
        w, v = map(place.read, found)
        near(w, W, bound)
        near(place.read(values), W, bound)
        near(whole @ v, v * w[..., None, :], bound)
        assert_orthonormal(v, bound)


def test_a_matrix_that_is_not_finite(solver, place):
    A = np.random.default_rng(0).standard_normal((3, 3, 2))
    A[1, 2, 0] = np.inf
    for given in (A, place.put(A)):
        with pytest.raises(ValueError, match="A: expected finite numbers, got NaN or infinity in matrix 1"):
            lc.svd(given, backend="cuda")
        u, s, _ = map(place.read, lc.svd(given, backend="cuda", validate=False))
        assert np.isnan(u[1]).all()
        assert np.isnan(s[1]).all()
        assert np.isfinite(s[[0, 2]]).all()


def test_what_lies_on_the_gpu_is_worked_on_there(place):
    assert type(lc.svd(place.put(X), compute_uv=False)) is place.kind
    assert type(lc.svd(Foreign(place.put(X)), compute_uv=False)) is place.kind
    assert lc.PCA(2).fit(place.put(X))._backend.name == "cuda"
    assert lc.PCA(2).fit(X)._backend.name == "cpu"
