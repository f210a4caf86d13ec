"""The thin singular value decomposition of every matrix of a batch (Golub & Kahan 1965)."""

from __future__ import annotations

import numpy as np

from .signature import Op
from .special import signs

NOT_CONVERGED, NOT_FINITE = 1, 2  # the status of a matrix; 0: solved


def solve_each(outputs, status, matrices, solve):
    """outputs[i] = solve(matrices[i]) + 0 where that can be done, else NaN, and status[i] says why."""
    for i, matrix in enumerate(matrices):
        status[i], found = NOT_FINITE, [np.nan] * len(outputs)
        if np.isfinite(matrix).all():
            try:
                status[i], found = 0, solve(matrix)
            except np.linalg.LinAlgError:
                status[i] = NOT_CONVERGED
        for output, value in zip(outputs, found):
            output[i] = value + 0.0


def svd_forward(u, s, vt, status, a):
    """a = u diag(s) vt, s descending, in each row of vt the largest entry positive; u and vt absent: s alone."""

    def solve(matrix):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        sign = signs(right)
        return left * sign, values, sign[:, None] * right

    if u is None:
        solve_each([s], status, a, lambda matrix: [np.linalg.svd(matrix, compute_uv=False)])
    else:
        solve_each([u, s, vt], status, a, solve)


def _flops(s, _):
    """With vectors, QR first (Golub & Van Loan 2013, figure 8.6.1), and the making of some 0.75 k^2 pairs of rotations."""
    long, k = s["m"] + s["n"] - s["k"], s["k"]
    return s["r"] * (6 * long * k**2 + 20 * k**3 + 45 * k**2)


OPS = (
    Op("svd_forward", "u?[r,m,k] s[r,k] vt?[r,k,n] status[r]:uint32 = a[r,m,n]", svd_forward, _flops),
)  # fmt: skip
