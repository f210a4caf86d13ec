"""What the decompositions on the GPU share: Jacobi rotations, and their order. Numba's compiler inlines it all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .launches import Kernel, numba_kernel

try:
    import numba
    from numba import cuda as numba_cuda
except ImportError:  # kernels that were compiled ahead of time need no compiler
    numba = numba_cuda = None

cuda: Any = numba_cuda
int32, float32, float64 = (getattr(numba, name, None) for name in ("int32", "float32", "float64"))

LIMIT = 32  # of min(m, n): what the shared memory of a block holds
SWEEPS = 40  # after which a matrix counts as one that does not converge
LANES = 8  # threads that work on one pair of vectors


def inlined(function: Any) -> Any:
    """A function that Numba kernels call."""
    return cuda.jit(device=True, inline="always")(function) if cuda else function


def kernels_of(make: Callable[..., Callable[..., None]]) -> dict[tuple[str, int], Kernel]:
    """The kernels make(size, real, eps, tiny, huge) for matrices of at most `size`, by dtype and size: 8, 16 or 32.
    tiny: the smallest normal number, huge: the largest."""
    found = {}
    for dtype, real in (("float32", float32), ("float64", float64)):
        limits = np.finfo(dtype)
        for size in (8, 16, LIMIT):
            function = make(size, real, float(limits.eps), float(limits.tiny), float(limits.max))
            function.__name__ = f"{function.__name__}_{size}"
            found[dtype, size] = numba_kernel(function)
    return found


def size_of(k: int) -> int:
    """The size of the kernel for k vectors."""
    return 8 if k <= 8 else 16 if k <= 16 else LIMIT


@inlined
def opponents(turn, pair, players):
    """Who meets in a turn of a round robin: over players - 1 turns everyone meets everyone. players is even."""
    last = players - 1
    first = turn + pair
    second = turn - pair
    if first >= last:
        first -= last
    if second < 0:
        second += last
    if pair == 0:
        first = last
    return first, second


@inlined
def rotation(alpha, beta, gamma, one):
    """The tangent, cosine and sine of the smaller angle that makes [alpha gamma; gamma beta] diagonal: alpha becomes alpha -
    tangent gamma, beta becomes beta + tangent gamma (Golub & Van Loan 2013, section 8.5.2)."""
    z = (beta - alpha) / (gamma + gamma)
    if abs(z) > one:
        inverse = one / z
        tangent = inverse / (one + math.sqrt(one + inverse * inverse))
    else:
        tangent = one / (abs(z) + math.sqrt(one + z * z))
        if z < 0:
            tangent = -tangent
    cosine = one / math.sqrt(one + tangent * tangent)
    sine = cosine * tangent
    # Of length 1 to the last bit or so: what is left would add up over the sweeps.
    half = (one - cosine * cosine - sine * sine) / (one + one)
    return tangent, cosine + cosine * half, sine + sine * half


@inlined
def rotate(x, p, q, i, cosine, sine):
    """Rotates entry i of the rows p and q."""
    one, other = x[p, i], x[q, i]
    x[p, i] = cosine * one - sine * other
    x[q, i] = sine * one + cosine * other


@inlined
def total(part, row, length, zero):
    """The sum of the first entries of a row, in order."""
    result = zero
    for i in range(length):
        result += part[row, i]
    return result


@inlined
def first_largest(x, row, length):
    """Of the first entries of a row the one of largest magnitude, the first of equals."""
    result = x[row, 0]
    for i in range(1, length):
        if abs(x[row, i]) > abs(result):
            result = x[row, i]
    return result


@inlined
def unit_scale(most, one):
    """What scales a positive number to [1/2, 1)."""
    half = one / (one + one)
    scale = one
    while most * scale >= one:
        scale *= half
    while most * scale < half:
        scale += scale
    return scale
