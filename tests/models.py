"""What the tests of models share: data, and all that training moves, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

State = dict[str, tuple[str, tuple[int, ...], bytes]]


def draw(rows: int, features: int, zeros: float = 0.0, seed: int = 0) -> np.ndarray:
    """Rows in [0, 1), so many of them zero, float32."""
    rng = np.random.default_rng(seed)
    X = rng.random((rows, features), np.float32)
    return np.where(rng.random(X.shape) < zeros, np.float32(0), X)


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def state(model: Any, history: bool = True) -> State:
    """Weights, both moments, progress, and history but for the time it took."""
    found = {name + kind: a for kind in ("", ":m", ":v") for name, a in model._read(kind).items()}
    found["progress"] = model._progress
    if history:
        found |= {f"history {name}": a for name, a in model.history_.items() if name != "seconds"}
    return {name: bits(a) for name, a in found.items()}


def assert_same(got: State, want: State) -> None:
    """Raises AssertionError naming what differs."""
    assert got.keys() == want.keys()
    different = [name for name in want if got[name] != want[name]]
    assert not different
