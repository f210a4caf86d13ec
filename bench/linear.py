"""The rows of the linear half: batched SVD and eigh, and PCA; what each contestant must show before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .network import Work

if TYPE_CHECKING:
    from .cases import Inputs
    from .peers import Peer

SHOWN = 24
"""Matrices, first and last, of a batch whose factors are looked at."""


@dataclass(frozen=True)
class Decomposition:
    """One row: "svd" (thin, with U and Vt) of a batch of m x n standard normal matrices, or "eigh" of A A' / n."""

    task: str
    batch: int
    m: int
    n: int
    dtype: str = "float32"

    @property
    def data(self) -> str:
        """What the row is called by."""
        return f"{self.m}x{self.n} {self.dtype}"

    steps = 1
    section = "linear"

    def __str__(self) -> str:
        return f"{self.task} {self.data} {self.batch}"

    def load(self, inputs: Inputs | None = None) -> np.ndarray:
        """The batch (batch, m, n)."""
        rng = np.random.default_rng([self.m, self.n, self.batch])
        a = rng.standard_normal((self.batch, self.m, self.n))
        return (a if self.task == "svd" else a @ a.transpose(0, 2, 1) / self.n).astype(self.dtype)

    def work(self, inputs: Inputs, *, skip_zeros: bool) -> Work:
        """The operations of the usual algorithms (Golub and Van Loan, tables 8.6.1 and 8.3), and reading and writing."""
        long, short = max(self.m, self.n), min(self.m, self.n)
        item = np.dtype(self.dtype).itemsize
        if self.task == "svd":
            flops, elements = 6 * long * short**2 + 20 * short**3, 2 * self.m * self.n + short**2 + short
        else:
            flops, elements = 9 * short**3, 2 * short**2 + short
        double = 2 if self.dtype == "float64" else 1  # ceilings are measured in float32
        return Work(self.batch * flops * double, self.batch * elements * item, self.batch * elements * item)

    def prepare(self, peer: Peer, a: np.ndarray) -> tuple[Callable[[], Any], Any]:
        """The call to time, and the first and last factors that it gives."""
        call = peer.decomposition(self.task, a)
        return call, [_ends(peer.host(factor)) for factor in call()]

    def verdicts(self, inputs: Inputs, evidence: dict[str, Any]) -> dict[str, str]:
        """Why a contestant is refused, by name; whoever passes is not in it."""
        a = _ends(self.load())
        reasons = {name: self.fault(a, factors) for name, factors in evidence.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def fault(self, a: np.ndarray, factors: list[np.ndarray]) -> str | None:
        """None if values, product and orthonormality are within 60 eps sqrt(max(m, n)); else the fault."""
        if any(factor.dtype != a.dtype for factor in factors):
            return f"gave {', '.join(str(factor.dtype) for factor in factors)}, expected {a.dtype}"
        exact = a.astype(np.float64)
        if self.task == "svd":
            u, s, vt = (factor.astype(np.float64) for factor in factors)
            truth, bases = np.linalg.svd(exact, compute_uv=False), (u.transpose(0, 2, 1), vt)
        else:
            s, v = (factor.astype(np.float64) for factor in factors)
            truth, u, vt = np.linalg.eigvalsh(exact), v, v.transpose(0, 2, 1)
            bases = (vt,)
        if s.shape != truth.shape or (u * s[:, None, :] @ vt).shape != exact.shape:
            return f"gave shapes {[factor.shape for factor in factors]}"
        scale = np.abs(truth).max(1)
        errors = {
            "a value": np.abs(s - truth).max(1) / scale,
            "the product": np.abs(u * s[:, None, :] @ vt - exact).max((1, 2)) / scale,
            "orthonormality": np.max([np.abs(b @ b.transpose(0, 2, 1) - np.eye(b.shape[1])).max((1, 2)) for b in bases], 0),
        }
        bound = 60 * np.finfo(a.dtype).eps * max(self.m, self.n) ** 0.5
        for what, error in errors.items():
            if not error.max() <= bound:
                return f"{what} is off by {error.max():.1e}, allowed {bound:.1e}"
        return None


def _ends(a: np.ndarray) -> np.ndarray:
    return np.concatenate([a[:SHOWN], a[-SHOWN:]])


@dataclass(frozen=True)
class Components:
    """One row of PCA: "pca fit" (50 components, by the covariance) of `batch` rows, "pca transform" of one row by such a
    fit, or "batched pca fit" of `batch` groups of 50 x 8."""

    task: str
    data: str
    batch: int

    steps = 1
    section = "linear"
    components = 50

    def __str__(self) -> str:
        return f"{self.task} {self.data} {self.batch}"

    def load(self, inputs: Inputs) -> np.ndarray:
        """The data of a fit: float32 (rows, features), or (groups, rows, features)."""
        if self.task == "batched pca fit":
            return np.random.default_rng(8).standard_normal((self.batch, 50, 8)).astype(np.float32)
        if self.data == "dense":
            return np.random.default_rng(9).random((60000, 784), np.float32)
        return np.array(np.load(inputs.folder / "mnist.npy", mmap_mode="r"))

    def work(self, inputs: Inputs, *, skip_zeros: bool) -> Work:
        """Half of X'X and one reading of X; a product with the components for a row."""
        if self.task == "batched pca fit":
            return Work(self.batch * (50 * 8 * 9 + 9 * 8**3), self.batch * 50 * 8 * 4.0, self.batch * 50 * 8 * 4.0)
        if self.task == "pca transform":
            return Work(2.0 * 784 * self.components, 4.0 * 784 * (self.components + 1), 4.0 * 784 * self.components)
        return Work(self.batch * 784 * 785.0, self.batch * 784 * 4.0, self.batch * 784 * 4.0)

    def prepare(self, peer: Peer, x: np.ndarray) -> tuple[Callable[[], Any], Any]:
        """The call to time, and what it is judged by."""
        if self.task == "pca transform":
            call = peer.pca_transform(x[:5000], self.components)
            return call, np.abs(peer.host(call()))
        fit = peer.pca_groups(x) if self.task == "batched pca fit" else peer.pca_fit(x, self.components)
        variances, components = fit()
        return fit, (peer.host(variances)[..., :50], peer.host(components))

    def verdicts(self, inputs: Inputs, evidence: dict[str, Any]) -> dict[str, str]:
        """Why a contestant is refused, by name; whoever passes is not in it."""
        x = self.load(inputs)
        if self.task == "pca transform":
            x = x[:5000].astype(np.float64)
            truth = np.abs((x[0] - x.mean(0)) @ np.linalg.eigh(np.cov(x.T))[1][:, : -self.components - 1 : -1])
            off = {name: float(np.abs(z.reshape(-1) - truth).max() / truth.max()) for name, z in evidence.items()}
            return {name: f"a code is off by {error:.1e}" for name, error in off.items() if not error < 2e-3}
        groups = x if x.ndim == 3 else x[None]
        covariances = [np.cov(group.T.astype(np.float64)) for group in groups[:SHOWN]]
        reasons = {}
        for name, (variances, components) in evidence.items():
            shown = zip(covariances, variances.reshape(len(groups), -1), components.reshape(len(groups), -1, x.shape[-1]))
            faults = [fault for one in shown if (fault := _components_fault(*one))]
            if faults:
                reasons[name] = faults[0]
        return reasons


def _components_fault(covariance: np.ndarray, variances: np.ndarray, components: np.ndarray) -> str | None:
    """None if the variances, and those that the components carry, are within 5e-4 of the largest; else the fault."""
    truth, axes = np.linalg.eigvalsh(covariance)[::-1][: len(variances)], components.astype(np.float64)
    carried = np.einsum("kf,fg,kg->k", axes, covariance, axes, optimize=True)
    errors = np.abs(variances - truth).max() / truth[0], np.abs(carried - truth).max() / truth[0]
    skew = np.abs(axes @ axes.T - np.eye(len(axes))).max()
    if max(errors) < 5e-4 and skew < 1e-4:
        return None
    return f"variances are off by {errors[0]:.1e}, what components carry by {errors[1]:.1e}, orthonormality by {skew:.1e}"


def linear_cases() -> list[Decomposition | Components]:
    """The interleaved rows, in the order of the tables."""
    shapes = [
        (20000, 3, 3), (20000, 5, 5), (10000, 8, 8), (4000, 16, 16), (1000, 32, 32), (1000, 64, 32), (400, 48, 48),
        (200, 64, 64), (200, 128, 64), (100, 784, 64), (100, 96, 96), (20, 200, 200), (16, 256, 256),
    ]  # fmt: skip
    orders = [(20000, 3), (10000, 8), (4000, 16), (1000, 32), (200, 64), (100, 96), (20, 200)]
    rows: list[Decomposition | Components] = []
    for dtype in ("float32", "float64"):
        rows += [Decomposition("svd", *shape, dtype) for shape in shapes]
        rows += [Decomposition("eigh", batch, n, n, dtype) for batch, n in orders]
    rows += [Components("pca fit", data, 60000) for data in ("mnist", "dense")]
    rows += [Components("pca transform", "mnist", 1), Components("batched pca fit", "50x8", 1000)]
    return rows
