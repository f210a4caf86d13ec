"""Decompositions of matrices that no kernel of this engine serves: by cuSOLVER, through CuPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops.special import signs
from ..ops.svd import NOT_FINITE

_BATCHED = 512  # beyond, a symmetric matrix fills the device alone


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
    with device.solving():
        found = (_svd if op == "svd_forward" else _eigh)(xp, matrices, vectors)
    if not whole:
        found = [xp.where(finite.reshape((-1,) + (1,) * (f.ndim - 1)), f, f.dtype.type(np.nan)) for f in found]
    status = xp.where(finite, np.uint32(0), np.uint32(NOT_FINITE))
    return tuple(xp.ascontiguousarray(f).reshape(lead + f.shape[1:]) for f in (*found, status))


def _empty(xp: Any, op: str, vectors: bool, a: np.ndarray) -> tuple[np.ndarray, ...]:
    *lead, m, n = a.shape
    k = min(m, n)
    shapes = [(m, k), (k,), (k, n)] if op == "svd_forward" else [(n,), (n, n)]
    if not vectors:
        shapes = [(k,)]
    return (*(xp.zeros((*lead, *shape), a.dtype) for shape in shapes), xp.zeros(lead, np.uint32))


def _svd(xp: Any, matrices: np.ndarray, vectors: bool) -> list[np.ndarray]:
    if not vectors:
        return [xp.linalg.svd(matrices, compute_uv=False)]
    u, s, vt = xp.linalg.svd(matrices, full_matrices=False)
    sign = signs(vt, xp)
    return [u * sign[:, None, :], s, vt * sign[:, :, None]]


def _eigh(xp: Any, matrices: np.ndarray, vectors: bool) -> list[np.ndarray]:
    solve: Callable[[np.ndarray], Any] = xp.linalg.eigh if vectors else lambda a: (xp.linalg.eigvalsh(a),)
    if matrices.shape[-1] > _BATCHED:
        w, *v = (xp.stack(parts) for parts in zip(*map(solve, matrices)))
    else:
        w, *v = solve(matrices)
    return [w, *(each * signs(each.swapaxes(-2, -1), xp)[..., None, :] for each in v)]
