"""Decompositions by cuSOLVER. No test here needs a GPU: NumPy stands in for it, once as the module of the arrays and once
behind the C interface, where it reads the arguments as the library would."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stand_in
from stand_in import Array

from latentcore.backends.cusolver import decompose, eigh_batched
from latentcore.backends.device import CupyDevice

RNG = np.random.default_rng(0)
ON_NUMPY = SimpleNamespace(
    xp=np, solving=nullcontext, eigh=lambda c, vectors: np.linalg.eigh(c) if vectors else (np.linalg.eigvalsh(c), None)
)


def with_values(values: Any, m: int, n: int) -> np.ndarray:
    """A matrix (1, m, n) of these singular values."""
    k = min(m, n)
    u, v = (np.linalg.qr(RNG.standard_normal((size, k)))[0] for size in (m, n))
    return ((u * np.asarray(values)) @ v.T)[None]


MATRICES = {
    "square": RNG.standard_normal((5, 40, 40)),
    "tall": RNG.standard_normal((3, 90, 35)),
    "wide": RNG.standard_normal((3, 34, 70)),
    "graded": with_values(10.0 ** -np.arange(40), 60, 40),
    "pairs of small values": with_values([1.0] + [1e-6] * 39, 40, 40),
    "rank 3": with_values([3, 2, 1] + [0] * 37, 50, 40),
    "repeated": with_values([2.0] * 40, 40, 45),
    "zero": np.zeros((2, 35, 36)),
    "large": RNG.standard_normal((1, 40, 40)) * 1e30,
    "small": RNG.standard_normal((1, 40, 40)) * 1e-30,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MATRICES)
def test_singular_values(name: str, dtype: str) -> None:
    a = MATRICES[name].astype(dtype)
    u, s, vt, status = decompose(ON_NUMPY, "svd_forward", True, a)
    values, again = decompose(ON_NUMPY, "svd_forward", False, a)
    assert not status.any()
    assert not again.any()
    assert u.dtype == s.dtype == vt.dtype == values.dtype == dtype
    exact = a.astype(np.float64)
    truth, bound = np.linalg.svd(exact, compute_uv=False), 10 * np.finfo(dtype).eps * max(a.shape[1:]) ** 0.5
    scale = np.maximum(truth[:, :1], np.finfo(dtype).tiny)
    for found in (s, values):
        assert (np.abs(found - truth) <= bound * scale).all()
        assert (np.diff(found) <= 0).all()
        assert (found >= 0).all()
    u, s, vt = (each.astype(np.float64) for each in (u, s, vt))
    assert (np.abs((u * s[:, None]) @ vt - exact) <= bound * scale[:, :, None]).all()
    for rows in (u.transpose(0, 2, 1), vt):
        assert np.abs(rows @ rows.transpose(0, 2, 1) - np.eye(rows.shape[1])).max() <= bound
    assert (np.take_along_axis(vt, np.abs(vt).argmax(-1)[..., None], -1) > 0).all()


def test_many_matrices_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    a = RNG.standard_normal((7, 5, 4)).astype(np.float32)
    whole = decompose(ON_NUMPY, "svd_forward", True, a)
    monkeypatch.setattr("latentcore.backends.cusolver._ELEMENTS", 40)
    for piece, want in zip(decompose(ON_NUMPY, "svd_forward", True, a), whole):
        np.testing.assert_allclose(piece, want, atol=1e-6)


# ---- the C interface -------------------------------------------------------------------------------------------------


class Library:
    """cusolverDnXsyevBatched, as its documentation says."""

    def __init__(self, info: int = 0, status: int = 0) -> None:
        self.info, self.status, self.workspaces = info, status, (96, 24)

    def cusolverDnXsyevBatched_bufferSize(
        self, handle, params, jobz, uplo, n, type_a, a, lda, type_w, w, compute, on_device, on_host, batch
    ) -> int:
        for size, bytes_ in zip((on_device, on_host), self.workspaces):
            size._obj.value = bytes_
        return 0

    def cusolverDnXsyevBatched(
        self, handle, params, jobz, uplo, n, type_a, a, lda, type_w, w, compute, device, at, host, here, info, batch
    ) -> int:
        assert (handle.value, params.value, lda.value) == (11, 12, n.value)
        assert (at.value, here.value) == self.workspaces
        assert device.value
        assert type_a.value == type_w.value == compute.value
        kind = {0: ctypes.c_float, 1: ctypes.c_double}[type_a.value]
        shape = batch.value, n.value, n.value
        columns = np.ctypeslib.as_array(ctypes.cast(a, ctypes.POINTER(kind)), shape)  # [matrix, column, row]
        values = np.ctypeslib.as_array(ctypes.cast(w, ctypes.POINTER(kind)), shape[:2])
        found = np.linalg.eigh(columns.transpose(0, 2, 1), UPLO="LU"[uplo.value])
        values[...] = found[0]
        columns[...] = found[1].transpose(0, 2, 1) if jobz.value else np.nan
        np.ctypeslib.as_array(ctypes.cast(info, ctypes.POINTER(ctypes.c_int)), shape[:1])[...] = 0
        np.ctypeslib.as_array(ctypes.cast(info, ctypes.POINTER(ctypes.c_int)), shape[:1])[-1] = self.info
        return self.status


CUPY = SimpleNamespace(
    empty=lambda shape, dtype: np.empty(shape, dtype).view(Array),
    asnumpy=np.array,
    cuda=SimpleNamespace(
        device=SimpleNamespace(get_cusolver_handle=lambda: 11), get_current_stream=lambda: SimpleNamespace(ptr=7)
    ),
)


@pytest.fixture
def cusolver() -> Any:
    """CuPy's module of that name; it notes what it was asked for."""
    asked: list[Any] = []
    return SimpleNamespace(
        asked=asked,
        createParams=lambda: 12,
        setStream=lambda *given: asked.append(given),
        destroyParams=asked.append,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", [True, False])
def test_a_batch_of_symmetric_matrices(vectors: bool, dtype: str, cusolver: Any) -> None:
    c = RNG.standard_normal((3, 5, 5)).astype(dtype).view(Array)  # what lies above the diagonal is no matter
    before = c.tobytes()
    w, v = eigh_batched(CUPY, cusolver, Library(), c, vectors)
    assert c.tobytes() == before
    want, _ = np.linalg.eigh(np.asarray(c))
    np.testing.assert_allclose(w, want, rtol=1e-5, atol=1e-6)
    assert cusolver.asked == [(11, 7), 12]
    if vectors:
        whole = np.tril(c) + np.tril(c, -1).transpose(0, 2, 1)
        np.testing.assert_allclose(whole @ v, v * w[:, None], rtol=1e-4, atol=1e-5)
    else:
        assert v is None


def test_a_failure_is_told(cusolver: Any) -> None:
    c = np.ones((2, 3, 3)).view(Array)
    with pytest.raises(np.linalg.LinAlgError, match="does not converge"):
        eigh_batched(CUPY, cusolver, Library(info=1), c, True)
    with pytest.raises(RuntimeError, match="status 3"):
        eigh_batched(CUPY, cusolver, Library(status=3), c, True)
    assert cusolver.asked.count(12) == 2


# ---- through CuPy ----------------------------------------------------------------------------------------------------


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CupyDevice:
    """CuPy's device, over a stand-in for CuPy that has no libraries beneath."""
    stand_in.Gpu().install(monkeypatch)
    return CupyDevice()


def test_what_is_missing_is_said(device: CupyDevice) -> None:
    for call in (device.solving, lambda: device.eigh(np.eye(2)[None], True)):
        with pytest.raises(
            ImportError, match=r"^backend 'cuda': cuSOLVER cannot be loaded \(.*\); it comes with CUDA 13.*$"
        ):
            call()


@pytest.mark.parametrize("batched", [True, False])
def test_a_cusolver_that_knows_no_batches(
    batched: bool, device: CupyDevice, cusolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, calls = RNG.standard_normal((3, 4, 4)).view(Array), []
    library = Library() if batched else None
    monkeypatch.setattr(device, "_cusolver", lambda: cusolver)
    monkeypatch.setattr(device, "solving", lambda: calls.append("one by one") or nullcontext())
    monkeypatch.setattr("latentcore.backends.device.load_library", lambda: library)
    device.cupy = SimpleNamespace(**vars(CUPY), linalg=np.linalg, stack=np.stack)
    w, v = device.eigh(c, True)
    assert calls == ([] if batched else ["one by one"])
    np.testing.assert_allclose(w, np.linalg.eigvalsh(np.asarray(c)), rtol=1e-9, atol=1e-12)
    assert v.shape == (3, 4, 4)
    assert device.eigh(c, False)[1] is None
