"""Philox4x32-10 on the GPU: the integers and uniforms of ``ops/random.py``, normals within units in the last place."""

from __future__ import annotations

from .elementary_cuda import cos_sin_2pi, log
from .launches import OFFSET, SEED, STEP, Emitter, Operand, device_function, tl, triton_kernel
from .tiles_cuda import places, tile, tiles_of

_PLACES = (OFFSET, SEED, STEP)
_OFFSET, _SEED, _STEP = map(tl.constexpr, _PLACES) if tl else _PLACES


@device_function
def philox(clock, counter, row, third, stream):
    """The four words of the counters (counter, row, third, stream), uint32; the key is the seed of the run."""
    return tl.philox(tl.load(clock + _SEED), counter, row, third.to(tl.uint32), stream)


@device_function
def _uniform(word, DTYPE: tl.constexpr):
    """The middle of one of 2^23 equal parts of (0, 1), exact in both types."""
    return ((word >> 9).to(tl.int32).to(DTYPE) + 0.5) * 1.1920928955078125e-07


@device_function
def _box_muller(a, b, DTYPE: tl.constexpr):
    """Two independent standard normals of words a and b."""
    square = log(_uniform(a, DTYPE)) * -2.0
    if square.dtype == tl.float32:
        radius = tl.sqrt_rn(square)
    else:
        radius = tl.sqrt(square)
    cosine, sine = cos_sin_2pi(_uniform(b, DTYPE))
    return radius * cosine, radius * sine


@device_function
def _interleaved(a, b, c, d):
    """Columns a0 b0 c0 d0 a1 b1 ..."""
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


@device_function
def uniform_tile(clock, first, row, stream, W: tl.constexpr, DTYPE: tl.constexpr):
    """Uniforms number first, a multiple of 4, to first + W - 1 of each row."""
    counter = (first >> 2) + tl.arange(0, W // 4).to(tl.uint32)[None, :]
    a, b, c, d = philox(clock, counter, row, tl.load(clock + _STEP), stream)
    return _interleaved(_uniform(a, DTYPE), _uniform(b, DTYPE), _uniform(c, DTYPE), _uniform(d, DTYPE))


@device_function
def normal_tile(clock, first, row, stream, W: tl.constexpr, ALIGNED: tl.constexpr, DTYPE: tl.constexpr):
    """Standard normals number first to first + W - 1 of each row; first, row: uint32 (M, 1). ALIGNED: first is a multiple
    of 4, so that the words of a counter lie side by side; else each element draws its counter for itself."""
    step = tl.load(clock + _STEP)
    if ALIGNED:
        counter = (first >> 2) + tl.arange(0, W // 4).to(tl.uint32)[None, :]
        a, b, c, d = philox(clock, counter, row, step, stream)
        n0, n1 = _box_muller(a, b, DTYPE)
        n2, n3 = _box_muller(c, d, DTYPE)
        normal = _interleaved(n0, n1, n2, n3)
    else:
        element = first + tl.arange(0, W).to(tl.uint32)[None, :]
        a, b, c, d = philox(clock, element >> 2, row, step, stream)
        second = (element & 2) != 0
        cosine, sine = _box_muller(tl.where(second, c, a), tl.where(second, d, b), DTYPE)
        normal = tl.where((element & 1) != 0, sine, cosine)
    return normal


@triton_kernel
def draw_tile(clock, out, r, width, stream, NORMAL: tl.constexpr, M: tl.constexpr, W: tl.constexpr):
    """out[r, width]: standard normals or uniforms of the rows offset, offset + 1, ..."""
    m, j, inside = tile(clock, r, width, M, W)
    row = (tl.load(clock + _OFFSET) + m).to(tl.uint32)[:, None]
    first = (tl.program_id(1) * W).to(tl.uint32)
    if NORMAL:
        x = normal_tile(clock, first, row, stream, W, True, out.dtype.element_ty)
    else:
        x = uniform_tile(clock, first, row, stream, W, out.dtype.element_ty)
    tl.store(out + places(m, j, width), x, inside)


def normal_forward(emit: Emitter, z: Operand, *, stream: int) -> None:
    """Tiles of z."""
    grid, sizes = tiles_of(emit, z)
    emit(draw_tile, *grid, out=z, stream=stream, NORMAL=True, **sizes)


def uniform_forward(emit: Emitter, u: Operand, *, stream: int) -> None:
    """Tiles of u."""
    grid, sizes = tiles_of(emit, u)
    emit(draw_tile, *grid, out=u, stream=stream, NORMAL=False, **sizes)


LAUNCHES = {"normal_forward": normal_forward, "uniform_forward": uniform_forward}
