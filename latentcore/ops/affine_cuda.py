"""Rows of many groups, each with an affine map of its own, on the GPU."""

from __future__ import annotations

from .elementary_cuda import extent, is_whole
from .launches import OUT_OF_RANGE, STATUS, Emitter, Operand, divide_up, tl, triton_kernel

_STATUS, _OUT_OF_RANGE = (tl.constexpr(STATUS), tl.constexpr(OUT_OF_RANGE)) if tl else (STATUS, OUT_OF_RANGE)
_TILE = (16, 16, 16)  # rows, columns, k


@triton_kernel
def affine_forward_tile(
    clock, y, x, group, before, w, after, r, o, i, groups,
    PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """A tile of y: for each of the groups that its rows are of, in ascending order, the product of all of them with that
    group's matrix, of which the group's rows are kept."""
    m = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    n, k = tl.program_id(1) * N + tl.arange(0, N), tl.arange(0, K)
    inside = m < extent(clock, r)
    of = tl.load(group + m, inside, other=0).to(tl.int64)
    tl.store(clock + _STATUS, _OUT_OF_RANGE, (tl.max(of, 0) >= groups) & is_whole(clock))
    of = tl.where(inside & (of < groups), of, groups)
    g = tl.min(of, 0)
    while g < groups:
        mine = (of == g)[:, None]
        sums = tl.zeros((M, N), x.dtype.element_ty)
        for begin in range(0, i, K):
            depth = begin + k
            a = tl.load(x + m[:, None] * i + depth[None, :], mine & (depth < i)[None, :], other=0.0)
            if before is not None:
                by = tl.load(before + g * i + depth, depth < i, other=0.0)
                a = (a.to(tl.float64) - by[None, :]).to(a.dtype)
            at = w + (g * o + n)[None, :] * i + depth[:, None]
            b = tl.load(at, (depth < i)[:, None] & (n < o)[None, :], other=0.0)
            sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=sums.dtype)
        if after is not None:
            move = tl.load(after + g * o + n, n < o, other=0.0)
            sums = (sums.to(tl.float64) + move[None, :]).to(sums.dtype)
        tl.store(y + m[:, None] * o + n[None, :], sums, mine & (n < o)[None, :])
        g = tl.min(tl.where(of > g, of, groups), 0)


def affine_forward(
    emit: Emitter, y: Operand, x: Operand, group: Operand, before: Operand | None, w: Operand, after: Operand | None
) -> None:
    """Tiles of y."""
    groups, out, inputs = (value for value, _ in w.dims)
    m, n, k = _TILE
    emit(
        affine_forward_tile, divide_up(emit.most(x.size(0)), m), divide_up(out, n), y=y, x=x, group=group, before=before,
        w=w, after=after, r=x.size(0), o=out, i=inputs, groups=groups, PRECISION=emit.precision, M=m, N=n, K=k,
    )  # fmt: skip


LAUNCHES = {"affine_forward": affine_forward}
