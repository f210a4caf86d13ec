"""The rows of a minibatch on the GPU."""

from __future__ import annotations

from .elementary_cuda import extent
from .launches import EPOCH, OFFSET, Emitter, Operand, device_function, divide_up, tl, triton_kernel
from .random import STREAMS
from .random_cuda import philox
from .shuffle import half_of

_PLACES = (EPOCH, OFFSET, STREAMS["shuffle"])
_EPOCH, _OFFSET, _STREAM = map(tl.constexpr, _PLACES) if tl else _PLACES
_BLOCK = 128


@device_function
def _four_rounds(left, right, k0, k1, k2, k3, mask):
    """Four rounds of the Feistel network."""
    left, right = right, left ^ _mixed(right ^ k0, mask)
    left, right = right, left ^ _mixed(right ^ k1, mask)
    left, right = right, left ^ _mixed(right ^ k2, mask)
    left, right = right, left ^ _mixed(right ^ k3, mask)
    return left, right


@device_function
def _mixed(f, mask):
    f = f * 0x85EBCA6B
    f = (f ^ (f >> 15)) * 0xC2B2AE35
    return (f ^ (f >> 13)) & mask


@device_function
def shuffled(clock, m, here, n, half):
    """Where the permutation of [0, n) of this epoch sends the places offset + m, uint32; only those that are `here`. n as
    float64, which holds it exactly; half: of the bits of a place."""
    epoch, zero = tl.load(clock + _EPOCH), tl.zeros((), tl.uint32)
    a0, a1, a2, a3 = philox(clock, zero, zero, epoch, _STREAM)
    b0, b1, b2, b3 = philox(clock, zero + 1, zero, epoch, _STREAM)
    half = half.to(tl.uint32)
    mask = ((zero + 1) << half) - 1
    end = n.to(tl.int64).to(tl.uint32)
    place = (tl.load(clock + _OFFSET) + m).to(tl.uint32)
    walking = here
    while tl.max(walking.to(tl.int32), 0) > 0:
        left, right = _four_rounds(place >> half, place & mask, a0, a1, a2, a3, mask)
        left, right = _four_rounds(left, right, b0, b1, b2, b3, mask)
        place = tl.where(walking, (left << half) | right, place)
        walking = walking & (place >= end)
    return place


@triton_kernel
def shuffle_block(clock, row, r, n, half, BLOCK: tl.constexpr):
    """row[r]: the places offset, offset + 1, ... of the permutation of this epoch."""
    m = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = m < extent(clock, r)
    tl.store(row + m, shuffled(clock, m, here, n, half), here)


def shuffle_forward(emit: Emitter, row: Operand, *, n: int) -> None:
    """Blocks of row."""
    blocks = divide_up(emit.most(row.size(0)), _BLOCK)
    emit(shuffle_block, blocks, row=row, r=row.size(0), n=float(n), half=half_of(n), BLOCK=_BLOCK)


LAUNCHES = {"shuffle_forward": shuffle_forward}
