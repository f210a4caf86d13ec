"""Rows of a matrix on the GPU, by number; a minibatch in one launch with the shuffle that numbers them."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import OUT_OF_RANGE, STATUS, Emitter, Operand, divide_up, tl, triton_kernel
from .shuffle import half_of
from .shuffle_cuda import shuffled
from .tiles_cuda import places, power_of_two, tile

_STATUS, _OUT_OF_RANGE = (tl.constexpr(STATUS), tl.constexpr(OUT_OF_RANGE)) if tl else (STATUS, OUT_OF_RANGE)
_ELEMENTS = 1024  # of a tile, in one row if it is that wide


@triton_kernel
def gather_tile(clock, y, x, row, r, f, data_rows, n, half, M: tl.constexpr, W: tl.constexpr):
    """y[r, f] = x[row]. With n the row numbers are made here: the places of the permutation of [0, n)."""
    m, j, inside = tile(clock, r, f, M, W)
    here, limit = m < extent(clock, r), extent(clock, data_rows)
    if n is not None:
        source = shuffled(clock, m, here, n, half)
        tl.store(row + m, source, here & (tl.program_id(1) == 0))
    else:
        source = tl.load(row + m, here, other=0)
    source = source.to(tl.int64)
    known = source < limit
    tl.store(clock + _STATUS + m * 0, _OUT_OF_RANGE, here & ~known)
    inside = inside & known[:, None]
    tl.store(y + places(m, j, f), tl.load(x + places(source, j, f), inside), inside)


def shuffle_gather_forward(emit: Emitter, row: Operand, y: Operand, x: Operand, *, n: int | None = None) -> None:
    """Tiles of y. n: of the permutation, None if the row numbers are given."""
    features = y.size(1)
    w = min(_ELEMENTS, power_of_two(features))
    m = _ELEMENTS // w
    emit(
        gather_tile, divide_up(emit.most(y.size(0)), m), divide_up(features, w), y=y, x=x, row=row, r=y.size(0),
        f=features, data_rows=x.size(0), n=None if n is None else float(n), half=None if n is None else half_of(n),
        M=m, W=w,
    )  # fmt: skip


LAUNCHES = {"gather_forward": shuffle_gather_forward, "shuffle_forward gather_forward": shuffle_gather_forward}
