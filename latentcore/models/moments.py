"""Count, mean and Gram matrix of rows that come in pieces."""

from __future__ import annotations

import numpy as np

from ..backends import Backend, Bound
from ..ops import Clock
from ..plan import Plan

_FLOPS = 4e9  # of one run, a few hundredths of a second: Ctrl-C is heard between runs
_LEAST, _MOST = 1024, 65536  # rows of one run


class Moments:
    """The sum of weights, the mean, and the Gram matrix about the mean of all rows added so far, in float64 whatever the
    dtype of the rows. The same rows in the same pieces give the same bits, whatever the number of threads."""

    def __init__(self, n_features: int, dtype: str, backend: Backend) -> None:
        self._backend = backend
        self._plans: dict[bool, Plan] = {}
        for weighted in (False, True):
            plan = self._plans[weighted] = Plan("moments", dtype)
            for name, shape in (("count", (1,)), ("mean", (n_features,)), ("gram", (n_features, n_features))):
                plan.state(name, *shape, dtype="float64")
            plan.input("x", "rows", n_features)
            weight = plan.input("weight", "rows", dtype="float64") if weighted else None
            plan.call("moments_forward", count="count", mean="mean", gram="gram", x="x", weight=weight)
        self._buffers = plan.of_role("state")
        self._state = {b.name: backend.allocate(b) for b in self._buffers}
        self._bound: dict[bool, Bound] = {}
        fitting = int(_FLOPS / n_features**2) // _LEAST * _LEAST
        self._slice = min(max(fitting, _LEAST), _MOST)

    def add(self, X: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Takes in rows (rows, n_features) of the dtype, C-contiguous, weighted by (rows,) float64."""
        weighted = weight is not None
        if weighted not in self._bound:
            self._bound[weighted] = self._backend.bind(self._plans[weighted], self._slice, self._state)
        for begin in range(0, len(X), self._slice):
            rows = slice(begin, min(begin + self._slice, len(X)))
            piece = {"x": X[rows]} if weight is None else {"x": X[rows], "weight": weight[rows]}
            self._bound[weighted].run(piece, Clock(rows=rows.stop - rows.start))

    def get(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Copies: the sum of weights, the mean (n_features,), the Gram matrix (n_features, n_features)."""
        count, mean, gram = (self._backend.get(self._state[b.name], b) for b in self._buffers)
        return float(count[0]), mean, gram
