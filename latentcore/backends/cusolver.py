"""Decompositions of matrices that no kernel of this engine serves: by cuSOLVER, through CuPy."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ops.special import signs
from ..ops.svd import NOT_FINITE

_LIBRARY = "libcusolver.so.12"  # of CUDA 13, loaded by CuPy before it is asked for here
_KINDS = {np.dtype("float32"): 0, np.dtype("float64"): 1}  # cudaDataType
_UPPER = 1  # cublasFillMode_t: the lower triangle of rows is the upper one of columns
_ELEMENTS = 2**25  # of matrices that are worked on at a time: several copies of them in float64


def decompose(device: Any, op: str, vectors: bool, a: np.ndarray) -> tuple[np.ndarray, ...]:
    """All outputs of "svd_forward" or "eigh_forward", the status last, over matrices a (..., m, n) on the device, by the
    rules of the op. Raises numpy.linalg.LinAlgError if an iteration does not converge."""
    xp, lead = device.xp, a.shape[:-2]
    matrices = a.reshape((math.prod(lead), *a.shape[-2:]))
    if not matrices.size:
        return _empty(xp, op, vectors, a)
    if op == "eigh_forward":
        matrices = xp.tril(matrices)
    finite = xp.isfinite(matrices).all(axis=(1, 2))
    whole = bool(finite.all())
    if not whole:
        matrices = xp.where(finite[:, None, None], matrices, matrices.dtype.type(0))
    solve = _eigh if op == "eigh_forward" else _svd
    pieces = [solve(device, matrices[piece], vectors) for piece in _pieces(matrices)]
    found = [xp.concatenate(parts) for parts in zip(*pieces)]
    if not whole:
        found = [xp.where(finite.reshape((-1,) + (1,) * (f.ndim - 1)), f, f.dtype.type(np.nan)) for f in found]
    status = xp.where(finite, np.uint32(0), np.uint32(NOT_FINITE))
    return tuple(xp.ascontiguousarray(f).reshape(lead + f.shape[1:]) for f in (*found, status))


def _pieces(matrices: np.ndarray) -> Iterator[slice]:
    step = max(1, _ELEMENTS // math.prod(matrices.shape[1:]))
    return (slice(begin, begin + step) for begin in range(0, len(matrices), step))


def _empty(xp: Any, op: str, vectors: bool, a: np.ndarray) -> tuple[np.ndarray, ...]:
    *lead, m, n = a.shape
    k = min(m, n)
    shapes = [(m, k), (k,), (k, n)] if op == "svd_forward" else [(n,), (n, n)]
    if not vectors:
        shapes = [(k,)]
    return (*(xp.zeros((*lead, *shape), a.dtype) for shape in shapes), xp.zeros(lead, np.uint32))


def _eigh(device: Any, matrices: np.ndarray, vectors: bool) -> list[np.ndarray]:
    w, v = device.eigh(matrices, vectors)
    return [w, v * signs(v.swapaxes(-2, -1), device.xp)[..., None, :]] if vectors else [w]


def _svd(device: Any, matrices: np.ndarray, vectors: bool) -> list[np.ndarray]:
    xp, real = device.xp, matrices.dtype
    if real == np.float64:
        with device.solving():
            if not vectors:
                return [xp.linalg.svd(matrices, compute_uv=False)]
            u, s, vt = xp.linalg.svd(matrices, full_matrices=False)
    else:
        u, s, vt = _by_products(device, matrices, vectors)
        if not vectors:
            return [s.astype(real)]
    sign = signs(vt, xp)
    return [(u * sign[:, None, :]).astype(real), s.astype(real), (vt * sign[:, :, None]).astype(real)]


def _by_products(device: Any, matrices: np.ndarray, vectors: bool) -> tuple[Any, np.ndarray, Any]:
    """The singular value decomposition of float32 matrices in float64, from the eigenvectors V of A'A: in float64 these err
    by far less than float32 rounds. A V has the singular vectors as columns, those of small values not orthogonal enough;
    Householder's QR, largest column first, makes them so, and what it leaves above the diagonal is below rounding."""
    xp = device.xp
    wide = matrices.shape[1] < matrices.shape[2]
    a = (matrices.swapaxes(-2, -1) if wide else matrices).astype(np.float64)
    _, v = device.eigh(xp.ascontiguousarray(a.swapaxes(-2, -1) @ a), True)
    v = v[:, :, ::-1]
    along = a @ v
    if not vectors:
        return None, -xp.sort(-xp.sqrt((along * along).sum(axis=1)), axis=-1), None
    q, r = xp.linalg.qr(along)
    diagonal = r.diagonal(0, 1, 2)
    order = (-abs(diagonal)).argsort(axis=-1)
    q = q * xp.where(diagonal < 0, -1.0, 1.0)[:, None, :]
    s = xp.take_along_axis(abs(diagonal), order, -1)
    q, v = (xp.take_along_axis(each, order[:, None, :], -1) for each in (q, v))
    return (v, s, q.swapaxes(-2, -1)) if wide else (q, s, v.swapaxes(-2, -1))


# ---- symmetric matrices, a batch in one call -------------------------------------------------------------------------


def load_library() -> Any:
    """cuSOLVER, or None if it has no solver for batches of symmetric matrices (it came with CUDA 12.6)."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return library if hasattr(library, "cusolverDnXsyevBatched") else None


def eigh_batched(cupy: Any, cusolver: Any, library: Any, c: Any, vectors: bool) -> tuple[Any, Any]:
    """Eigenvalues (batch, n), ascending, and eigenvectors (batch, n, n) or None of symmetric matrices (batch, n, n) that are
    given by their lower triangles. cusolver: CuPy's module of that name; library: cuSOLVER itself. Raises
    numpy.linalg.LinAlgError."""
    batch, n, _ = c.shape
    a, w, info = c.copy(), cupy.empty((batch, n), c.dtype), cupy.empty((batch,), "int32")
    handle, parameters = cupy.cuda.device.get_cusolver_handle(), cusolver.createParams()
    cusolver.setStream(handle, cupy.cuda.get_current_stream().ptr)
    kind, count = ctypes.c_int(_KINDS[c.dtype]), ctypes.c_int64(batch)
    problem = (
        ctypes.c_void_p(handle), ctypes.c_void_p(parameters), ctypes.c_int(vectors), ctypes.c_int(_UPPER), ctypes.c_int64(n),
        kind, ctypes.c_void_p(a.data.ptr), ctypes.c_int64(n), kind, ctypes.c_void_p(w.data.ptr), kind,
    )  # fmt: skip
    there, here = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        _check(library.cusolverDnXsyevBatched_bufferSize(*problem, ctypes.byref(there), ctypes.byref(here), count))
        work, own = cupy.empty((there.value,), "uint8"), ctypes.create_string_buffer(max(1, here.value))
        pointers = ctypes.c_void_p(work.data.ptr), there, own, here, ctypes.c_void_p(info.data.ptr)
        _check(library.cusolverDnXsyevBatched(*problem, *pointers, count))
        failed = cupy.asnumpy(info).any()  # waits: the workspaces live until then
    finally:
        cusolver.destroyParams(parameters)
    if failed:
        raise np.linalg.LinAlgError("cusolverDnXsyevBatched: the iteration does not converge")
    return w, a.swapaxes(-2, -1) if vectors else None


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cusolverDnXsyevBatched: status {status}")
