"""Singular value decompositions on the GPU, a block of threads for each matrix.

A matrix, scaled by a power of two, is taken as k = min(m, n) long vectors, the columns of a tall one and the rows of a wide
one. Householder's QR with pivoting, A P = Q R, leaves k vectors of length k, the rows of R, which one-sided Jacobi makes
orthogonal: R' J = V diag(s) (Drmac & Veselic 2008, "New fast and accurate Jacobi SVD algorithm", SIAM J. Matrix Anal.
Appl. 29). The long vectors of the result are Q J, a product of reflections and rotations and so orthonormal whatever the
rank; the short ones are V, completed to an orthonormal set where s is 0. Barriers are those of the whole block.
"""

from __future__ import annotations

import math

from .jacobi_cuda import (
    LANES,
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
    total,
    unit_scale,
)  # fmt: skip
from .launches import ROWS, Emitter, Operand
from .svd import NOT_CONVERGED, NOT_FINITE

_LONG = 128  # vectors longer than this get more threads
_MOST = 32  # threads to a vector, at most
_BLOCKS, _SCRATCH = 4096, 2**24  # of a launch: blocks at most, and about so many bytes


@inlined
def _factor(r, spare, part, norms, taus, pivots, work, spot, long, k, down, across, groups, floor, zero, one):
    """QR with pivoting of the columns c of work[spot + i * down + c * across]: the entries of R, by the numbers that columns
    had before, into r, which is zero; the reflectors in place. Returns the rank."""
    t = cuda.threadIdx.x
    lanes = cuda.blockDim.x // groups
    group, lane = t // lanes, t % lanes
    for c in range(group, k, groups):
        square = zero
        for i in range(lane, long, lanes):
            value = work[spot + i * down + c * across]
            square += value * value
        spare[c, lane] = square
    if t < k:
        norms[t] = zero
    rank = 0
    going = True
    while going:
        cuda.syncthreads()
        if t < k and norms[t] >= zero:
            norms[t] = total(spare, t, lanes, zero)
        cuda.syncthreads()
        pivot = 0
        for c in range(1, k):
            if norms[c] > norms[pivot]:
                pivot = c
        square = norms[pivot]
        going = square > floor
        if going:
            head = work[spot + rank * down + pivot * across]
            norm = math.sqrt(square)
            diagonal = -norm if head >= zero else norm
            first = head - diagonal
            tau = one / (norm * (norm + abs(head)))
            begin = rank + lane if lane > 0 else rank + lanes  # the first entry of the reflector is no lane's
            for c in range(group, k, groups):
                if c != pivot and norms[c] >= zero:
                    dot = zero
                    if lane == 0:
                        dot = first * work[spot + rank * down + c * across]
                    for i in range(begin, long, lanes):
                        dot += work[spot + i * down + pivot * across] * work[spot + i * down + c * across]
                    part[c, lane] = dot
            cuda.syncthreads()
            for c in range(group, k, groups):
                if c != pivot and norms[c] >= zero:
                    by = tau * total(part, c, lanes, zero)
                    square = zero
                    if lane == 0:
                        r[rank, c] = work[spot + rank * down + c * across] - by * first
                    for i in range(begin, long, lanes):
                        value = work[spot + i * down + c * across] - by * work[spot + i * down + pivot * across]
                        work[spot + i * down + c * across] = value
                        square += value * value
                    spare[c, lane] = square
            if t == pivot:
                r[rank, pivot], work[spot + rank * down + pivot * across] = diagonal, first
                taus[rank], pivots[rank], norms[pivot] = tau, pivot, -one
            rank += 1
            going = rank < k
    cuda.syncthreads()
    return rank


@inlined
def _orthogonalise(x, basis, part, k, rank, groups, tolerance, floor, zero, one):
    """Rotates the first rows of x[rank, k], and of basis[rank, rank] with them, until those of x are orthogonal. Returns 0,
    or how many threads still found work."""
    lanes = min(LANES, cuda.blockDim.x // groups)
    pair, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
    players = rank + rank % 2
    moving, sweep = rank - 1, 0
    while moving > 0 and sweep < SWEEPS:
        turned = 0
        for turn in range(players - 1):
            p, q = opponents(turn, pair, players)
            plays = 2 * pair < players and p < rank and q < rank
            if plays:
                alpha, beta, gamma = zero, zero, zero
                for i in range(lane, k, lanes):
                    alpha += x[p, i] * x[p, i]
                    beta += x[q, i] * x[q, i]
                    gamma += x[p, i] * x[q, i]
                part[pair, lane], part[pair, LANES + lane], part[pair, 2 * LANES + lane] = alpha, beta, gamma
            cuda.syncthreads()
            if plays:
                alpha, beta, gamma = zero, zero, zero
                for i in range(lanes):
                    alpha += part[pair, i]
                    beta += part[pair, LANES + i]
                    gamma += part[pair, 2 * LANES + i]
                if alpha > floor and beta > floor and abs(gamma) > tolerance * math.sqrt(alpha) * math.sqrt(beta):
                    _, cosine, sine = rotation(alpha, beta, gamma, one)
                    for i in range(lane, k, lanes):
                        rotate(x, p, q, i, cosine, sine)
                    for i in range(lane, rank, lanes):
                        rotate(basis, p, q, i, cosine, sine)
                    turned = 1
            cuda.syncthreads()
        moving = cuda.syncthreads_count(turned)
        sweep += 1
    return moving


@inlined
def _complete(x, norms, kept, part, k, floor, zero, one):
    """Makes the rows of x[k, k], which are orthogonal, orthonormal: those that count as zero become what the others leave
    of unit vectors."""
    t = cuda.threadIdx.x
    for e in range(t, k * k, cuda.blockDim.x):
        c = e // k
        if norms[c] * norms[c] > floor:
            x[c, e % k] /= norms[c]
    if t < k:
        kept[t] = norms[t] * norms[t] > floor
    cuda.syncthreads()
    for c in range(k):
        if not kept[c]:
            if t < k:
                left = one
                for d in range(k):
                    if kept[d]:
                        left -= x[d, t] * x[d, t]
                part[0, t] = left
            cuda.syncthreads()
            best = 0
            for i in range(1, k):
                if part[0, i] > part[0, best]:
                    best = i
            if t < k:
                x[c, t] = one if t == best else zero
            cuda.syncthreads()
            for _ in range(2):
                if t < k:
                    dot = zero
                    for i in range(k):
                        dot += x[t, i] * x[c, i]
                    part[1, t] = dot
                cuda.syncthreads()
                if t < k:
                    value = x[c, t]
                    for d in range(k):
                        if kept[d]:
                            value -= part[1, d] * x[d, t]
                    x[c, t] = value
                cuda.syncthreads()
            square = _square(x, c, k, zero)
            cuda.syncthreads()
            if t < k:
                x[c, t] /= math.sqrt(square)
            if t == 0:
                kept[c] = 1
            cuda.syncthreads()


@inlined
def _expand(far, base, basis, place, work, spot, taus, pivots, part, long, k, rank, down, across, groups, zero):
    """far = Q [basis'; 0], its columns in order: the reflections backwards."""
    lanes = cuda.blockDim.x // groups
    group, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
    for c in range(group, k, groups):
        for i in range(lane, long, lanes):
            far[base + i * down + place[c] * across] = basis[c, i] if i < k else zero
    cuda.syncthreads()
    for step in range(rank - 1, -1, -1):
        reflector = spot + pivots[step] * across
        for c in range(group, k, groups):
            dot = zero
            for i in range(step + lane, long, lanes):
                dot += work[reflector + i * down] * far[base + i * down + c * across]
            part[c, lane] = dot
        cuda.syncthreads()
        for c in range(group, k, groups):
            by = taus[step] * total(part, c, lanes, zero)
            for i in range(step + lane, long, lanes):
                far[base + i * down + c * across] -= by * work[reflector + i * down]
        cuda.syncthreads()


@inlined
def _square(x, row, length, zero):
    """The sum of the squares of the first entries of a row."""
    result = zero
    for i in range(length):
        result += x[row, i] * x[row, i]
    return result


def _make(size, real, eps, tiny, huge):
    groups, width, pitch = size // 2, size + 1, _MOST + 1

    def svd_block(clock, s, far, near, status, a, work, r, long, k, tall, vectors):
        """s[r, k], and if `vectors` far[r, long, k] and near[r, k, k], of a[r, long, k]; not tall: far, near and a are
        stored as their transposes. work: as much of a for each block. status[r]."""
        x = cuda.shared.array((size, width), real)
        basis = cuda.shared.array((size, pitch), real)
        part = cuda.shared.array((size, pitch), real)
        norms = cuda.shared.array(size, real)
        taus = cuda.shared.array(size, real)
        pivots = cuda.shared.array(size, int32)
        place = cuda.shared.array(size, int32)
        zero, one = real(0.0), real(1.0)
        floor, small, large = real(eps**4), real(tiny), real(huge)
        t, threads = cuda.threadIdx.x, cuda.blockDim.x
        lanes = threads // groups
        group, lane = t // lanes, t % lanes
        across = 1 if tall else long
        down = k if tall else 1
        matrices = -r * clock[ROWS] if r < 0 else r
        spot = cuda.blockIdx.x * (long * k)
        for matrix in range(cuda.blockIdx.x, matrices, cuda.gridDim.x):
            base, square = matrix * (long * k), matrix * (k * k)
            wrong, most = 0, zero
            for e in range(t, long * k, threads):
                value = abs(a[base + e])
                if not value <= large:
                    wrong = 1
                elif value > most:
                    most = value
            part[group, lane] = most
            state = NOT_FINITE if cuda.syncthreads_count(wrong) > 0 else 0
            if t < groups:
                norms[t] = abs(first_largest(part, t, lanes))
            for e in range(t, size * width, threads):
                x[e // width, e % width] = zero
            cuda.syncthreads()
            if state == 0:
                for i in range(groups):
                    if norms[i] > most:
                        most = norms[i]
                scale = unit_scale(most, one) if most >= small else one
                for e in range(t, long * k, threads):
                    value = a[base + e]
                    work[spot + e] = value * scale if abs(value) >= small else zero
                cuda.syncthreads()
                rank = _factor(
                    x, basis, part, norms, taus, pivots, work, spot, long, k, down, across, groups, floor, zero, one
                )
                for e in range(t, k * k, threads):
                    basis[e // k, e % k] = one if e // k == e % k else zero
                cuda.syncthreads()
                tolerance = real(eps) * math.sqrt(real(k + 2))
                if _orthogonalise(x, basis, part, k, rank, groups, tolerance, floor, zero, one) > 0:
                    state = NOT_CONVERGED
            if state == 0:
                if t < k:
                    norms[t] = math.sqrt(_square(x, t, k, zero))
                cuda.syncthreads()
                if t < k:
                    before = 0
                    for c in range(k):
                        if norms[c] > norms[t] or (norms[c] == norms[t] and c < t):
                            before += 1
                    place[t] = before
                    value = norms[t] / scale
                    s[matrix * k + before] = value if value >= small else zero
                cuda.syncthreads()
                if vectors:
                    _expand(
                        far, base, basis, place, work, spot, taus, pivots, part, long, k, rank, down, across, groups, zero
                    )
                    _complete(x, norms, pivots, part, k, floor, zero, one)
                    if not tall:  # the signs are those of far
                        length = (long + lanes - 1) // lanes
                        for c in range(group, k, groups):
                            best = zero
                            for i in range(lane * length, min(long, lane * length + length)):
                                value = far[base + i * down + place[c] * across]
                                if abs(value) > abs(best):
                                    best = value
                            part[c, lane] = best
                    cuda.syncthreads()
                    if t < k:
                        value = first_largest(x, t, k) if tall else first_largest(part, t, lanes)
                        norms[t] = -one if value < zero else one
                    cuda.syncthreads()
                    for e in range(t, k * k, threads):
                        c, i = e // k, e % k
                        to = place[c] * k + i if tall else i * k + place[c]
                        near[square + to] = x[c, i] * norms[c] + zero
                    for c in range(group, k, groups):
                        for i in range(lane, long, lanes):
                            to = base + i * down + place[c] * across
                            far[to] = far[to] * norms[c] + zero
            else:
                for e in range(t, k, threads):
                    s[matrix * k + e] = math.nan
                if vectors:
                    for e in range(t, k * k, threads):
                        near[square + e] = math.nan
                    for e in range(t, long * k, threads):
                        far[base + e] = math.nan
            if t == 0:
                status[matrix] = state
            cuda.syncthreads()

    return svd_block


KERNELS = kernels_of(_make)


def svd_forward(emit: Emitter, u: Operand | None, s: Operand, vt: Operand | None, status: Operand, a: Operand) -> None:
    """Blocks that take one matrix after another, each with memory for one."""
    m, n = a.dims[1][0], a.dims[2][0]
    long, k, tall = max(m, n), min(m, n), m >= n
    if k > LIMIT:
        raise NotImplementedError(f"svd_forward: expected min(m, n) <= {LIMIT} on the GPU, got {m} x {n}")
    size, item = size_of(k), 8 if a.dtype == "float64" else 4
    blocks = min(emit.most(a.size(0)), _BLOCKS, max(132, _SCRATCH // (m * n * item)))
    work = emit.scratch(blocks * m * n, a.dtype)
    far, near = (u, vt) if tall else (vt, u)
    emit(
        KERNELS[a.dtype, size], blocks, threads=size // 2 * (LANES if long <= _LONG else _MOST), s=s, far=far or work,
        near=near or work, status=status, a=a, work=work, r=a.size(0), long=long, k=k, tall=int(tall),
        vectors=int(u is not None),
    )  # fmt: skip


LAUNCHES = {"svd_forward": svd_forward}
