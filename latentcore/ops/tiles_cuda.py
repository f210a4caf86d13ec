"""Tiles of matrices, which the kernels whose work is of one element at a time cut their arrays into; sums of vectors."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import Emitter, Operand, device_function, divide_up, tl

_WIDEST = 128  # columns of a tile
WHOLE = 512  # the widest rows that a tile holds whole, in kernels that sum them
BLOCK = 1024  # elements of a vector that one program takes at a time


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def elements_of(dtype: str) -> int:
    """How many elements a tile has: four of each thread, two in float64."""
    return 512 if dtype == "float32" else 256


def tile_of(width: int, widest: int = _WIDEST, dtype: str = "float32") -> tuple[int, int]:
    """(rows, columns) of a tile of a matrix of that width, powers of two; at least four columns, at most `widest`."""
    columns = min(widest, power_of_two(max(width, 4)))
    return max(1, elements_of(dtype) // columns), columns


def tiles_of(emit: Emitter, matrix: Operand) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid over a matrix [r, width], tiles of rows first; and the parameters r, width, M and W of a kernel."""
    r, width = matrix.size(0), matrix.size(1)
    m, w = tile_of(width, dtype=matrix.dtype)
    return (divide_up(emit.most(r), m), divide_up(width, w)), {"r": r, "width": width, "M": m, "W": w}


@device_function
def tile(clock, r, width, M: tl.constexpr, W: tl.constexpr):
    """The tile of this program: its rows (M,), its columns (W,), and which elements lie in the matrix [r, width]."""
    m, j = tl.program_id(0) * M + tl.arange(0, M), tl.program_id(1) * W + tl.arange(0, W)
    return m, j, (m < extent(clock, r))[:, None] & (j < width)[None, :]


@device_function
def places(m, j, width):
    """Where the elements of rows m and columns j lie in a matrix width wide."""
    return m.to(tl.int64)[:, None] * width + j[None, :]


@device_function
def block(rows, M: tl.constexpr):
    """The rows (M,) of this program, and which of them there are."""
    m = tl.program_id(0) * M + tl.arange(0, M)
    return m, m < rows


@device_function
def piece(m, here, j, width):
    """Of the rows m that are `here` and the columns j: which elements lie in a matrix width wide, and where in it."""
    return here[:, None] & (j < width)[None, :], places(m, j, width)


@device_function
def sum_of(values, n, BLOCK: tl.constexpr):
    """The sum of n float64 numbers, by one program."""
    total = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, n, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        total += tl.load(values + place, place < n, other=0.0)
    return tl.sum(total, 0)
