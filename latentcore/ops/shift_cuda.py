"""Rows moved by one vector on the GPU."""

from __future__ import annotations

from .launches import Emitter, Operand, tl, triton_kernel
from .tiles_cuda import places, tile, tiles_of


@triton_kernel
def shift_forward_tile(clock, y, x, by, r, width, SUBTRACT: tl.constexpr, M: tl.constexpr, W: tl.constexpr):
    """y = x + by, or x - by, in float64, rounded once."""
    m, j, inside = tile(clock, r, width, M, W)
    place = places(m, j, width)
    v = tl.load(x + place, inside, other=0.0).to(tl.float64)
    move = tl.load(by + j, j < width, other=0.0)[None, :]
    if SUBTRACT:
        v -= move
    else:
        v += move
    tl.store(y + place, v.to(y.dtype.element_ty), inside)


def shift_forward(emit: Emitter, y: Operand, x: Operand, by: Operand, *, subtract: bool) -> None:
    """Tiles of y."""
    grid, sizes = tiles_of(emit, x)
    emit(shift_forward_tile, *grid, y=y, x=x, by=by, SUBTRACT=bool(subtract), **sizes)


LAUNCHES = {"shift_forward": shift_forward}
