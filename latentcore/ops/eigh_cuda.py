"""Eigenvalues and eigenvectors of symmetric matrices on the GPU: two-sided Jacobi, a block of threads for each matrix, which
lies in shared memory. The rotations of a turn touch no row twice and are applied at once (Brent & Luk 1985, "The solution
of singular-value and symmetric eigenvalue problems on multiprocessor arrays", SIAM J. Sci. Stat. Comput. 6)."""

from __future__ import annotations

import math

from .jacobi_cuda import (
    LIMIT,
    SWEEPS,
    cuda,
    first_largest,
    inlined,
    int32,
    kernels_of,
    opponents,
    rotate,
    rotation,
    size_of,
    unit_scale,
)  # fmt: skip
from .launches import ROWS, Emitter, Operand
from .svd import NOT_CONVERGED, NOT_FINITE


@inlined
def _diagonalise(x, basis, tangents, cosines, sines, n, tolerance, zero, one):
    """Rotates the symmetric x[n, n], beside which lies a zero row and column if n is odd, until no entry off the diagonal
    exceeds the tolerance; and the rows of basis[n, n] with it. Returns 0, or how many threads still found work."""
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    players = n + n % 2
    pairs = players // 2
    moving, sweep = n - 1, 0
    while moving > 0 and sweep < SWEEPS:
        turned = 0
        for turn in range(players - 1):
            if t < pairs:
                p, q = opponents(turn, t, players)
                tangent, cosine, sine = zero, one, zero
                if abs(x[p, q]) > tolerance:
                    tangent, cosine, sine = rotation(x[p, p], x[q, q], x[p, q], one)
                    turned = 1
                tangents[t], cosines[t], sines[t] = tangent, cosine, sine
            cuda.syncthreads()
            for e in range(t, pairs * pairs, threads):
                first, second = e // pairs, e % pairs
                p, q = opponents(turn, first, players)
                if first == second and sines[first] != zero:
                    move = tangents[first] * x[p, q]
                    x[p, p] -= move
                    x[q, q] += move
                    x[p, q] = zero
                    x[q, p] = zero
                elif first > second:
                    a, b = opponents(turn, second, players)
                    cosine, sine = cosines[first], sines[first]
                    pa, qa = cosine * x[p, a] - sine * x[q, a], sine * x[p, a] + cosine * x[q, a]
                    pb, qb = cosine * x[p, b] - sine * x[q, b], sine * x[p, b] + cosine * x[q, b]
                    cosine, sine = cosines[second], sines[second]
                    pa, pb = cosine * pa - sine * pb, sine * pa + cosine * pb
                    qa, qb = cosine * qa - sine * qb, sine * qa + cosine * qb
                    x[p, a], x[p, b], x[q, a], x[q, b] = pa, pb, qa, qb
                    x[a, p], x[b, p], x[a, q], x[b, q] = pa, pb, qa, qb
            for e in range(t, pairs * n, threads):
                pair, i = e // n, e % n
                p, q = opponents(turn, pair, players)
                if p < n and q < n:
                    cosine, sine = cosines[pair], sines[pair]
                    rotate(basis, p, q, i, cosine, sine)
            cuda.syncthreads()
        moving = cuda.syncthreads_count(turned)
        sweep += 1
    return moving


def _make(size, real, eps, tiny, huge):
    width, half, most_threads = size + 1, size // 2, 4 * size

    def eigh_block(clock, w, v, status, c, r, n, vectors):
        """w[r, n] and if `vectors` v[r, n, n] of c[r, n, n], of which the lower triangle is read. status[r]."""
        x = cuda.shared.array((size, width), real)
        basis = cuda.shared.array((size, width), real)
        tops = cuda.shared.array(most_threads, real)
        tangents = cuda.shared.array(half, real)
        cosines = cuda.shared.array(half, real)
        sines = cuda.shared.array(half, real)
        place = cuda.shared.array(size, int32)
        zero, one, small, large = real(0.0), real(1.0), real(tiny), real(huge)
        t, threads, matrix = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
        matrices = -r * clock[ROWS] if r < 0 else r
        if matrix < matrices:
            base = matrix * (n * n)
            wrong, most = 0, zero
            for e in range(t, n * n, threads):
                if e % n <= e // n:
                    value = abs(c[base + e])
                    if not value <= large:
                        wrong = 1
                    elif value > most:
                        most = value
            tops[t] = most
            state = NOT_FINITE if cuda.syncthreads_count(wrong) > 0 else 0
            scale = one
            if state == 0:
                for i in range(threads):
                    if tops[i] > most:
                        most = tops[i]
                if most >= small:
                    scale = unit_scale(most, one)
                for e in range(t, size * width, threads):
                    x[e // width, e % width] = zero
                    basis[e // width, e % width] = one if e // width == e % width else zero
                cuda.syncthreads()
                for e in range(t, n * n, threads):
                    i, j = e // n, e % n
                    if j <= i and abs(c[base + e]) >= small:
                        x[i, j] = c[base + e] * scale
                        x[j, i] = c[base + e] * scale
                cuda.syncthreads()
                if _diagonalise(x, basis, tangents, cosines, sines, n, real(eps / 4), zero, one) > 0:
                    state = NOT_CONVERGED
            if state == 0:
                if t < n:
                    before = 0
                    for i in range(n):
                        if x[i, i] < x[t, t] or (x[i, i] == x[t, t] and i < t):
                            before += 1
                    place[t] = before
                    value = x[t, t] / scale
                    w[matrix * n + before] = value + zero if abs(value) >= small else zero
                    tops[t] = -one if first_largest(basis, t, n) < zero else one
                cuda.syncthreads()
                if vectors:
                    for e in range(t, n * n, threads):
                        i, j = e // n, e % n
                        v[base + i * n + place[j]] = basis[j, i] * tops[j] + zero
            else:
                for e in range(t, n, threads):
                    w[matrix * n + e] = math.nan
                if vectors:
                    for e in range(t, n * n, threads):
                        v[base + e] = math.nan
            if t == 0:
                status[matrix] = state

    return eigh_block


KERNELS = kernels_of(_make)


def eigh_forward(emit: Emitter, w: Operand, v: Operand | None, status: Operand, c: Operand) -> None:
    """A block for each matrix."""
    n = c.dims[1][0]
    if n > LIMIT:
        raise NotImplementedError(f"eigh_forward: expected n <= {LIMIT} on the GPU, got {n}")
    emit(
        KERNELS[c.dtype, size_of(n)], emit.most(c.size(0)), threads=4 * size_of(n), w=w, v=v or c, status=status, c=c,
        r=c.size(0), n=n, vectors=int(v is not None),
    )  # fmt: skip


LAUNCHES = {"eigh_forward": eigh_forward}
