"""Count, mean and Gram matrix of rows that come in pieces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..backends import Backend, Bound
from ..ops import Clock
from ..plan import Buffer, Plan

_FLOPS = 4e9  # of one run, a few hundredths of a second: Ctrl-C is heard between runs
_LEAST, _MOST = 1024, 65536  # rows of one run
_MATRICES = 6  # as large as the Gram matrix, that finding its eigenvectors holds at a time


class Moments:
    """The sum of weights, the mean, and the Gram matrix about the mean of all rows added so far, in float64 whatever the
    dtype of the rows. The same rows in the same pieces give the same bits, whatever the number of threads."""

    def __init__(self, n_features: int, backend: Backend) -> None:
        """No rows yet. Raises MemoryError for more features than there is memory to find the eigenvectors of."""
        needed, there = 8 * n_features**2, _memory()
        if _MATRICES * needed > there:
            raise MemoryError(
                f"X: {n_features} features take matrices of {needed / 1e9:.3g} GB, {_MATRICES} of them at a time; there are "
                f"{there / 1e9:.3g} GB of memory"
            )
        shapes = {"count": (1,), "mean": (n_features,), "gram": (n_features, n_features)}
        self.features, self.backend = n_features, backend
        self._buffers = {name: Buffer(name, shape, "float64", "state") for name, shape in shapes.items()}
        self._state = {name: backend.allocate(b) for name, b in self._buffers.items()}
        self._rows = 0
        self._bound: dict[tuple[str, bool], Bound] = {}
        fitting = int(_FLOPS / n_features**2) // _LEAST * _LEAST
        self._slice = min(max(fitting, _LEAST), _MOST)

    @property
    def count(self) -> float:
        """The sum of weights."""
        return float(self._read("count")[0])

    @property
    def rows(self) -> int:
        """How many rows were added with weights above 0, or the sum of their weights where that is more."""
        return max(self._rows, int(self.count))

    @property
    def finite(self) -> bool:
        """Whether no sum overflowed."""
        return bool(np.isfinite(self._read("mean")).all() and np.isfinite(self._read("gram")).all())

    def add(self, X: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Takes in rows (rows, n_features) float32 or float64, C-contiguous, weighted by (rows,) float64."""
        key = str(X.dtype), weight is not None
        if key not in self._bound:
            self._bound[key] = self.backend.bind(self._plan(*key), self._slice, self._state)
        for begin in range(0, len(X), self._slice):
            rows = slice(begin, min(begin + self._slice, len(X)))
            piece = {"x": X[rows]} if weight is None else {"x": X[rows], "weight": weight[rows]}
            self._bound[key].run(piece, Clock(rows=rows.stop - rows.start))
            self._rows += rows.stop - rows.start if weight is None else int((weight[rows] != 0).sum())

    def _plan(self, dtype: str, weighted: bool) -> Plan:
        plan = Plan("moments", dtype)
        for b in self._buffers.values():
            plan.state(b.name, *b.shape, dtype="float64")
        plan.input("x", "rows", self.features)
        weight = plan.input("weight", "rows", dtype="float64") if weighted else None
        plan.call("moments_forward", count="count", mean="mean", gram="gram", x="x", weight=weight)
        return plan

    def _read(self, name: str) -> np.ndarray:
        return self.backend.get(self._state[name], self._buffers[name])

    def get(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Copies: the sum of weights, the mean (n_features,), the Gram matrix (n_features, n_features)."""
        return self.count, self._read("mean"), self._read("gram")

    def put(self, count: float, mean: np.ndarray, gram: np.ndarray, rows: int) -> None:
        """Takes on what ``get`` gave, and ``rows``, in the place of all rows so far; whole, or not at all."""
        state = {name: self.backend.allocate(b) for name, b in self._buffers.items()}
        for name, array in (("count", np.array([count])), ("mean", mean), ("gram", gram)):
            self.backend.put(state[name], array)
        self._bound.clear()
        self._state, self._rows = state, rows

    def merge(self, other: Moments) -> None:
        """Takes in all rows of another, of as many features (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        (n, mean, gram), (more, far, spread) = self.get(), other.get()
        if more:
            step = far - mean
            gram += spread + np.outer(step * (n * more / (n + more)), step)
            self.put(n + more, mean + step * (more / (n + more)), gram, self._rows + other._rows)


def _memory() -> float:
    """Bytes of memory that there are, or that this process's group may use."""
    there = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else np.inf
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(there, float(text)) if text.isdecimal() else there
