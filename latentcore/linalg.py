"""Decompositions of batches of small matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .backends import Backend, Batched, get_backend
from .checks import as_array, check_bool, contiguous
from .ops import OPS, Dim
from .ops.svd import NOT_CONVERGED, NOT_FINITE
from .plan import Plan

LIMIT = 1024  # of min(m, n) for the kernels of this engine

_NAMES = {"svd_forward": "A", "eigh_forward": "C"}
_REALS = (np.dtype("float32"), np.dtype("float64"))


def svd(A: Any, *, compute_uv: bool = True, validate: bool = True, backend: str = "auto") -> Any:
    """The thin singular value decomposition of each matrix of A (..., m, n), A = U diag(S) Vt.

    Returns (U, S, Vt) of shapes (..., m, k), (..., k), (..., k, n), k = min(m, n); S alone with compute_uv=False. float32
    and float64 are kept, integers and bools become float64. S descends and is never negative; U and Vt are orthonormal to
    rounding whatever the rank; the largest entry of each row of Vt, the first of equals, is positive. Numbers below the
    smallest normal one count as 0. Empty batches and empty matrices give empty results.

    Bidiagonalization and implicit-shift QR, across the matrices of the batch (Golub & Kahan 1965; Golub & Van Loan 2013,
    section 8.6). A matrix's result does not depend on the others, nor on the number of threads: the same bits. Where
    min(m, n) > 1024, numpy.linalg.svd does the work, by the same rules but for that promise.

    backend: "auto" works where A lies, "cuda" on the GPU: by Jacobi's method, a block of threads for each matrix, and by
    cuSOLVER where a matrix is too large for that. Results lie where A does.

    Raises TypeError for what is no dense array of float32, float64, integers or bools (float16 is refused, as NumPy does);
    ValueError for complex numbers and fewer than two dimensions; ValueError for NaN or infinity, naming the first matrix
    that holds any: with validate=False the results of such a matrix are NaN; numpy.linalg.LinAlgError for a matrix whose
    iteration does not converge."""
    return _solve("svd_forward", A, "compute_uv", compute_uv, validate, backend)


def eigh(C: Any, *, eigenvectors: bool = True, validate: bool = True, backend: str = "auto") -> Any:
    """The eigenvalues and eigenvectors of each symmetric matrix of C (..., n, n), C V = V diag(w). The lower triangle of
    C is read, nothing above it.

    Returns (w, V) of shapes (..., n), (..., n, n); w alone with eigenvectors=False. w ascends; the columns of V are
    orthonormal to rounding, and the largest entry of each, the first of equals, is positive. dtypes, empty arrays, the
    promise of the same bits, the limit of n = 1024 and backend are those of ``svd``.

    Tridiagonalization and implicit-shift QR, across the matrices of the batch (Golub & Van Loan 2013, section 8.3).

    Raises as ``svd`` does, and ValueError for matrices that are not square."""
    return _solve("eigh_forward", C, "eigenvectors", eigenvectors, validate, backend)


def _solve(op: str, value: Any, option: str, vectors: Any, validate: Any, backend: Any) -> Any:
    if vectors is not True and vectors is not False:
        vectors = check_bool(vectors, option)
    if validate is not True and validate is not False:
        validate = check_bool(validate, "validate")
    if type(backend) is not str:
        get_backend(backend)
    name, a = _NAMES[op], value
    here = type(a) is np.ndarray and a.ndim >= 2 and a.dtype in _REALS
    if not (here and a.flags.c_contiguous and a.flags.aligned):
        a, backend = _matrices(value, name, backend)
    results = _solver(op, *a.shape[-2:], a.dtype, vectors, backend)(a)
    if np.count_nonzero(results[-1]):
        _report(results[-1], name, validate)
    return results[:-1] if vectors else results[0]


def _matrices(value: Any, name: str, backend: str) -> tuple[np.ndarray, str]:
    """value as a C-contiguous array of matrices in a dtype that kernels take, in main memory or on the device, and the name
    of the backend that it goes to. Raises TypeError or ValueError."""
    engine = get_backend(backend, value)
    a = as_array(value, name, engine.device)
    if a.ndim < 2:
        raise ValueError(f"{name}: expected matrices (..., rows, columns), got shape {a.shape}")
    dtype = a.dtype.newbyteorder("=") if a.dtype.kind == "f" else np.dtype("float64")
    if dtype not in _REALS:
        raise TypeError(f"{name}: expected float32, float64, integers or bools, got dtype {a.dtype}")
    return contiguous(a, dtype, engine.device), backend if engine.device is None else engine.name


def _report(status: np.ndarray, name: str, validate: bool) -> None:
    """Raises the error of the first matrix that has one; without validation NaN and infinity are none."""
    wrong = status != 0 if validate else status == NOT_CONVERGED
    if not wrong.any():
        return
    at = tuple(map(int, np.unravel_index(wrong.argmax(), wrong.shape)))
    where = f" in matrix {at[0] if len(at) == 1 else at}" if at else ""
    if status[at] == NOT_FINITE:
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity{where}")
    raise np.linalg.LinAlgError(f"{name}: the iteration does not converge{where}")


@lru_cache(maxsize=256)
def _solver(
    op: str, m: int, n: int, dtype: np.dtype[Any], vectors: bool, backend: str
) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """All outputs of the op, its status last and in main memory, from arrays (..., m, n) of a dtype. Raises ValueError."""
    engine = get_backend(backend)
    if op == "eigh_forward" and m != n:
        raise ValueError(f"{_NAMES[op]}: expected square matrices (..., n, n), got shape (..., {m}, {n})")
    plan = decomposition(op, m, n, str(dtype), vectors)
    if engine.device is not None:
        return _on_device(engine, plan, vectors)
    if 0 < min(m, n) <= LIMIT:
        return Batched(engine, plan)
    outputs = [plan.buffers.get(a.name) for a in OPS[op].arguments[:-1]]

    def by_numpy(a: np.ndarray) -> tuple[np.ndarray, ...]:
        lead = a.shape[:-2]
        made = [None if b is None else np.zeros(b.array_shape(math.prod(lead)), b.dtype) for b in outputs]
        if a.size:
            OPS[op].reference(*made, a.reshape(-1, m, n))
        return tuple(x.reshape(lead + x.shape[1:]) for x in made if x is not None)

    return by_numpy


def _on_device(engine: Backend, plan: Plan, vectors: bool) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """The same on a device: by its kernels, or where these do not serve such matrices by cuSOLVER."""
    (source,) = plan.of_role("input")
    kernels = Batched(engine, plan) if source.elements(1) and engine.serves(plan) else None

    def run(a: np.ndarray) -> tuple[np.ndarray, ...]:
        if kernels and a.size:
            *found, status = kernels(a)
        else:
            from .backends.cusolver import decompose  # loads ctypes

            *found, status = decompose(engine.device, plan.name, vectors, engine.keep(a))
            if type(a) is np.ndarray:
                found = [engine.home(each) for each in found]
        return (*found, engine.home(status))

    return run


def decomposition(op: str, m: int, n: int, dtype: str, vectors: bool = True) -> Plan:
    """The plan of "svd_forward" or "eigh_forward" over matrices (rows, m, n), with or without its vectors."""
    plan = Plan(op, dtype)
    size: dict[str, Dim] = {"r": "rows", "m": m, "n": n, "k": min(m, n)}
    present = [a for a in OPS[op].arguments if vectors or not a.optional]
    for a in present:
        declare = plan.input if a is present[-1] else plan.output
        declare(a.name, *(size[letter] for letter in a.dims), dtype=a.dtype)
    plan.call(op, **{a.name: a.name for a in present})
    return plan
