"""Philox4x32-10 (Salmon et al. 2011): uniform and normal numbers, each a function of its own counter.

Key: the seed. Counter: (element // 4, row, step, stream); element e takes word e % 4.
"""

from __future__ import annotations

import numpy as np

from .signature import Clock, Op

# What draws from which stream.
STREAMS = {"shuffle": 0, "latent": 1, "evaluation": 2, "sample": 3, "initialize": 4, "projection": 5}


def philox(seed: int, c0: np.ndarray, c1: np.ndarray, c2: np.ndarray, c3: np.ndarray) -> np.ndarray:
    """The four words of each counter, (4, ...) uint32."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(x).astype(np.uint64) & low for x in np.broadcast_arrays(c0, c1, c2, c3)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            p1 & low,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            p0 & low,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c).astype(np.uint32)


def philox_uniform(seed: int, row: np.ndarray, width: int, step: int, stream: int, first: int = 0) -> np.ndarray:
    """(rows, width) uniforms in (0, 1): the top 23 bits plus a half, over 2^23; elements first, first + 1, ..."""
    counters = np.arange(first // 4, (first + width + 3) // 4)
    words = philox(seed, counters[None, :], np.asarray(row)[:, None], np.array(step), np.array(stream))
    words = words.transpose(1, 2, 0).reshape(len(row), 4 * len(counters))[:, first % 4 :][:, :width]
    return ((words >> 9).astype(np.float64) + 0.5) / 2**23


def philox_normal(seed: int, row: np.ndarray, width: int, step: int, stream: int, first: int = 0) -> np.ndarray:
    """(rows, width) standard normals by Box-Muller: words 0, 1 and 2, 3 of a counter give two each."""
    begin, end = first // 4 * 4, (first + width + 3) // 4 * 4
    u = philox_uniform(seed, row, end - begin, step, stream, begin).reshape(len(row), -1, 2)
    radius, quarter = np.sqrt(-2 * np.log(u[..., 0])), np.round(4 * u[..., 1])
    angle = 2 * np.pi * (u[..., 1] - quarter / 4)  # exact but for the product, so that small cosines and sines are good too
    turn = (np.cos(angle) + 1j * np.sin(angle)) * np.array([1, 1j, -1, -1j])[quarter.astype(int) % 4]
    normal = np.stack([radius * turn.real, radius * turn.imag], -1).reshape(len(row), end - begin)
    return normal[:, first - begin :][:, :width]


def normal_forward(z, *, clock: Clock, stream):
    """Standard normals of the rows offset, offset + 1, ..."""
    z[...] = philox_normal(clock.seed, clock.offset + np.arange(len(z)), z.shape[1], clock.step, stream)


def uniform_forward(u, *, clock: Clock, stream):
    """Uniforms of the rows offset, offset + 1, ..."""
    u[...] = philox_uniform(clock.seed, clock.offset + np.arange(len(u)), u.shape[1], clock.step, stream)


OPS = (
    Op("normal_forward", "z[r,l] =", normal_forward, lambda s, _: 40 * s["r"] * s["l"], {"stream": 0}),
    Op("uniform_forward", "u[r,l] =", uniform_forward, lambda s, _: 20 * s["r"] * s["l"], {"stream": 0}),
)
