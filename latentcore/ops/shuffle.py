"""The rows of a minibatch: a keyed permutation of [0, n), evaluated place by place."""

from __future__ import annotations

import numpy as np

from .random import STREAMS, philox
from .signature import Clock, Op


def half_of(n: int) -> int:
    """Half of the bits of the permutation of [0, n)."""
    return max(1, (max(n - 1, 1).bit_length() + 1) // 2)


def permutation(seed: int, epoch: int, place: np.ndarray, n: int) -> np.ndarray:
    """Where the permutation of [0, n) of this epoch sends each place: a Feistel network of eight rounds (Luby and Rackoff
    1988), walked until it lands below n (Black and Rogaway 2002). Its keys are the words of the counters 0 and 1."""
    half = half_of(n)
    words = philox(seed, np.arange(2), np.array(0), np.array(epoch), np.array(STREAMS["shuffle"]))
    key = words.T.ravel().astype(np.uint64)
    mask, low = np.uint64((1 << half) - 1), np.uint64(0xFFFFFFFF)
    place = np.asarray(place).astype(np.uint64)
    walking = np.ones(place.shape, bool)
    while walking.any():
        left, right = place[walking] >> np.uint64(half), place[walking] & mask
        for k in key:
            f = ((right ^ k) * np.uint64(0x85EBCA6B)) & low
            f ^= f >> np.uint64(15)
            f = (f * np.uint64(0xC2B2AE35)) & low
            f ^= f >> np.uint64(13)
            left, right = right, left ^ (f & mask)
        place[walking] = left << np.uint64(half) | right
        walking = place >= n
    return place.astype(np.uint32)


def shuffle_forward(row, *, clock: Clock, n):
    """The places offset, offset + 1, ... of the permutation of this epoch."""
    row[...] = permutation(clock.seed, clock.epoch, clock.offset + np.arange(len(row)), n)


OPS = (Op("shuffle_forward", "row[r]:uint32 =", shuffle_forward, lambda s, _: 60 * s["r"], {"n": 1}),)
