"""Straight and spherical interpolation (Shoemake 1985) between the rows of a and b, exact at both ends."""

from __future__ import annotations

import numpy as np

from .signature import Op

# Below this sine of the angle (parallel and opposite codes, and a zero code) the arc is taken as straight.
STRAIGHT = 1e-4


def _arc(a, b):
    """Lengths and angle of each pair (Kahan 2006), and where the arc is straight."""
    la, lb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        u, v = a / la, b / lb
        angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))[:, None]
        straight = ~((np.sin(angle) >= STRAIGHT) & np.isfinite(la) & np.isfinite(lb))
    return u, v, la, lb, np.where(straight, np.pi / 2, angle), straight


def _weights(t, angle, straight):
    return [np.where(straight, s, np.sin(s * angle) / np.sin(angle)) for s in (1 - t[:, None], t[:, None])]


def lerp_forward(y, a, b, t):
    """y = (1 - t) a + t b."""
    y[...] = (1 - t[:, None]) * a + t[:, None] * b


def lerp_backward(da, db, dy, a, b, t):
    """da = (1 - t) dy; db = t dy."""
    da[...], db[...] = (1 - t[:, None]) * dy, t[:, None] * dy


def slerp_forward(y, a, b, t):
    """y = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b."""
    _, _, _, _, angle, straight = _arc(a, b)
    wa, wb = _weights(t, angle, straight)
    y[...] = wa * a + wb * b


def slerp_backward(da, db, dy, a, b, t):
    """As if the weights were constant, and through the angle."""
    u, v, la, lb, angle, straight = _arc(a, b)
    weights = _weights(t, angle, straight)
    sine, cosine = np.sin(angle), np.cos(angle)
    slopes = [(s * np.cos(s * angle) - w * cosine) / sine for s, w in zip((1 - t[:, None], t[:, None]), weights)]
    along = sum((dy * end).sum(1, keepdims=True) * slope for end, slope in zip((a, b), slopes))
    with np.errstate(all="ignore"):
        bend_a, bend_b = -along / sine * (v - u * cosine) / la, -along / sine * (u - v * cosine) / lb
    da[...] = weights[0] * dy + np.where(straight, 0, bend_a)
    db[...] = weights[1] * dy + np.where(straight, 0, bend_b)


def _flops(s, _):
    return 3 * s["r"] * s["l"]


_FORWARD = "y[r,l] = a[r,l] b[r,l] t[r]"
_BACKWARD = "da[r,l] db[r,l] = dy[r,l] a[r,l] b[r,l] t[r]"
OPS = (
    Op("lerp_forward", _FORWARD, lerp_forward, _flops),
    Op("lerp_backward", _BACKWARD, lerp_backward, _flops),
    Op("slerp_forward", _FORWARD, slerp_forward, lambda s, _: 12 * s["r"] * s["l"]),
    Op("slerp_backward", _BACKWARD, slerp_backward, lambda s, _: 24 * s["r"] * s["l"]),
)
