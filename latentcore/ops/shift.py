"""Rows moved by one vector: the centring of data, and its inverse."""

from __future__ import annotations

from .signature import Op


def shift_forward(y, x, by, *, subtract):
    """y = x + by, or x - by; computed in float64 and rounded once."""
    y[...] = x - by if subtract else x + by


OPS = (
    Op("shift_forward", "y[r,f] = x[r,f] by[f]:float64", shift_forward, lambda s, _: s["r"] * s["f"],
       {"subtract": False}),
)  # fmt: skip
