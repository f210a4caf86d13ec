"""Straight and spherical interpolation on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .elementary_cuda import cos_sin_2pi, extent
from .interpolate import STRAIGHT
from .launches import Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .tiles_cuda import block, piece, tile_of

_STRAIGHT = tl.constexpr(STRAIGHT) if tl else STRAIGHT


@device_function
def _arctangent(z):
    """atan(q) / (pi q) in z = q^2, |q| <= sqrt(2) - 1, in float64."""
    y = z * -0.005673603190538875 + 0.012089871304720277
    y = y * z + -0.016028949502243674
    y = y * z + 0.018611443348069787
    y = y * z + -0.021208838864098196
    y = y * z + 0.024484536979408333
    y = y * z + -0.028937222723947078
    y = y * z + 0.03536776392888257
    y = y * z + -0.04547284086161977
    y = y * z + 0.06366197723655333
    y = y * z + -0.10610329539459616
    return y * z + 0.3183098861837907


@device_function
def _half_turns(y, x):
    """atan2(y, x) / pi for x and y that are not negative, in float64."""
    low, high = y < 0.4142135623730950 * x, x < 0.4142135623730950 * y
    above = tl.where(low, y, tl.where(high, -x, y - x))
    below = tl.where(low, x, tl.where(high, y, y + x))
    q = above / below
    return q * _arctangent(q * q) + tl.where(low, 0.0, tl.where(high, 0.5, 0.25))


@device_function
def _ends(a, b, mask, place):
    """A tile of both ends, in float64."""
    return tl.load(a + place, mask, other=0.0).to(tl.float64), tl.load(b + place, mask, other=0.0).to(tl.float64)


@device_function
def _arc(a, b, m, inside, width, M: tl.constexpr, W: tl.constexpr):
    """Of the rows' pairs of ends: both lengths, the angle in turns (Kahan 2006: good for every angle), its cosine and
    sine, and whether the arc is taken as straight, when the others say nothing."""
    aa, bb = tl.zeros((M, W), tl.float64), tl.zeros((M, W), tl.float64)
    for begin in range(0, width, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), width)
        u, v = _ends(a, b, mask, place)
        aa += u * u
        bb += v * v
    length_a, length_b = tl.sqrt(tl.sum(aa, 1)), tl.sqrt(tl.sum(bb, 1))
    infinity = float("inf")
    fine = (length_a > 0) & (length_a < infinity) & (length_b > 0) & (length_b < infinity)
    length_a, length_b = tl.where(fine, length_a, 1.0), tl.where(fine, length_b, 1.0)
    apart, along = tl.zeros((M, W), tl.float64), tl.zeros((M, W), tl.float64)
    for begin in range(0, width, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), width)
        u, v = _ends(a, b, mask, place)
        u, v = u / length_a[:, None], v / length_b[:, None]
        apart += (u - v) * (u - v)
        along += (u + v) * (u + v)
    turns = _half_turns(tl.sqrt(tl.sum(apart, 1)), tl.sqrt(tl.sum(along, 1)))
    cosine, sine = cos_sin_2pi(turns)
    return length_a, length_b, turns, cosine, sine, ~(fine & (sine >= _STRAIGHT))


@triton_kernel
def interpolate_forward_rows(clock, y, a, b, t, r, width, SPHERICAL: tl.constexpr, M: tl.constexpr, W: tl.constexpr):
    """y = (the weight of 1 - t) a + (the weight of t) b."""
    m, inside = block(extent(clock, r), M)
    to_b = tl.load(t + m, inside, other=0.0).to(tl.float64)
    weight_a, weight_b = 1.0 - to_b, to_b
    if SPHERICAL:
        _, _, turns, _, sine, straight = _arc(a, b, m, inside, width, M, W)
        _, sine_a = cos_sin_2pi(weight_a * turns)
        _, sine_b = cos_sin_2pi(weight_b * turns)
        weight_a, weight_b = tl.where(straight, weight_a, sine_a / sine), tl.where(straight, weight_b, sine_b / sine)
    kind = y.dtype.element_ty
    for begin in range(0, width, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), width)
        from_a = weight_a.to(kind)[:, None] * tl.load(a + place, mask, other=0.0)
        tl.store(y + place, from_a + weight_b.to(kind)[:, None] * tl.load(b + place, mask, other=0.0), mask)


@triton_kernel
def interpolate_backward_rows(
    clock, da, db, dy, a, b, t, r, width, SPHERICAL: tl.constexpr, M: tl.constexpr, W: tl.constexpr
):
    """dy times the weights, and on an arc what comes through its angle."""
    m, inside = block(extent(clock, r), M)
    to_b = tl.load(t + m, inside, other=0.0).to(tl.float64)
    to_a = 1.0 - to_b
    weight_a, weight_b = to_a, to_b
    if SPHERICAL:
        length_a, length_b, turns, cosine, sine, straight = _arc(a, b, m, inside, width, M, W)
        cosine_a, sine_a = cos_sin_2pi(to_a * turns)
        cosine_b, sine_b = cos_sin_2pi(to_b * turns)
        weight_a, weight_b = tl.where(straight, to_a, sine_a / sine), tl.where(straight, to_b, sine_b / sine)
        along_a, along_b = tl.zeros((M, W), tl.float64), tl.zeros((M, W), tl.float64)
        for begin in range(0, width, W):
            mask, place = piece(m, inside, begin + tl.arange(0, W), width)
            u, v = _ends(a, b, mask, place)
            g = tl.load(dy + place, mask, other=0.0).to(tl.float64)
            along_a += g * u
            along_b += g * v
        slope_a = (to_a * cosine_a - weight_a * cosine) / sine
        slope_b = (to_b * cosine_b - weight_b * cosine) / sine
        bend = (tl.sum(along_a, 1) * slope_a + tl.sum(along_b, 1) * slope_b) / sine
    for begin in range(0, width, W):
        mask, place = piece(m, inside, begin + tl.arange(0, W), width)
        g = tl.load(dy + place, mask, other=0.0).to(tl.float64)
        ga, gb = weight_a[:, None] * g, weight_b[:, None] * g
        if SPHERICAL:
            u, v = _ends(a, b, mask, place)
            u, v = u / length_a[:, None], v / length_b[:, None]
            ga -= tl.where(straight[:, None], 0.0, bend[:, None] * (v - u * cosine[:, None]) / length_a[:, None])
            gb -= tl.where(straight[:, None], 0.0, bend[:, None] * (u - v * cosine[:, None]) / length_b[:, None])
        tl.store(da + place, ga.to(da.dtype.element_ty), mask)
        tl.store(db + place, gb.to(db.dtype.element_ty), mask)


def _rows(emit: Emitter, a: Operand) -> tuple[int, dict[str, int]]:
    """The grid over blocks of rows, and the parameters r, width, M and W. Tiles of half the size: much is in float64."""
    m, w = tile_of(a.size(1))
    return divide_up(emit.most(a.size(0)), m // 2), {"r": a.size(0), "width": a.size(1), "M": m // 2, "W": w}


def _forward(emit: Emitter, y: Operand, a: Operand, b: Operand, t: Operand, spherical: bool) -> None:
    blocks, sizes = _rows(emit, a)
    emit(interpolate_forward_rows, blocks, y=y, a=a, b=b, t=t, SPHERICAL=spherical, **sizes)


def _backward(
    emit: Emitter, da: Operand, db: Operand, dy: Operand, a: Operand, b: Operand, t: Operand, spherical: bool
) -> None:
    blocks, sizes = _rows(emit, a)
    emit(interpolate_backward_rows, blocks, da=da, db=db, dy=dy, a=a, b=b, t=t, SPHERICAL=spherical, **sizes)


LAUNCHES: dict[str, Callable[..., None]] = {
    "lerp_forward": partial(_forward, spherical=False),
    "lerp_backward": partial(_backward, spherical=False),
    "slerp_forward": partial(_forward, spherical=True),
    "slerp_backward": partial(_backward, spherical=True),
}
