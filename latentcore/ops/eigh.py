"""The eigenvalues and eigenvectors of every symmetric matrix of a batch (Golub & Van Loan 2013, section 8.3)."""

from __future__ import annotations

import numpy as np

from .signature import Op
from .special import signs
from .svd import solve_each


def eigh_forward(w, v, status, c):
    """c v = v diag(w), w ascending, in each column of v the largest entry positive, c given by its lower triangle;
    v absent: w alone."""

    def solve(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors * signs(vectors.T)

    if v is None:
        solve_each([w], status, np.tril(c), lambda matrix: [np.linalg.eigvalsh(matrix)])
    else:
        solve_each([w, v], status, np.tril(c), solve)


OPS = (
    Op("eigh_forward", "w[r,n] v?[r,n,n] status[r]:uint32 = c[r,n,n]", eigh_forward,
       lambda s, _: s["r"] * (9 * s["n"] ** 3 + 25 * s["n"] ** 2)),
)  # fmt: skip
