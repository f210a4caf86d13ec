"""How far a result may lie from the truth: the one home of tolerances.

An output that sums `length` contributions, the root of the sum of whose squares is `scale`, may err by
CONSTANT * eps * sqrt(length) * scale. By Cauchy and Schwarz sqrt(length) * scale is never below the sum of their
absolute values. A result too small for a normal number may be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

CONSTANT = 6.0
# A tolerance of which an output uses less than this part, over all its cases, is too loose to find anything.
LOOSE = 0.02
# A gradient may err by this part of the tensor's largest entry.
GRADIENT = 1e-6

# A decomposition may err by this times eps * sqrt(max(m, n)) of the largest value, in the Frobenius norm.
DECOMPOSITION = 60.0

# The length of the runs in which the losses add up a row.
RUN = 32

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Rounding:
    """What the tolerance of an output is made of; a sum where parts are computed in different dtypes."""

    scale: np.ndarray | float
    length: int = 1
    dtype: str | None = None  # that of the computation, when it is not that of the plan
    rest: Rounding | None = None

    def __add__(self, other: Rounding) -> Rounding:
        return replace(self, rest=other if self.rest is None else self.rest + other)

    def tolerance(self, dtype: str) -> np.ndarray:
        """The largest error of each element."""
        of = np.finfo(self.dtype or dtype)
        here = CONSTANT * float(of.eps) * np.sqrt(self.length) * np.asarray(self.scale, np.float64)
        here = here + self.length * float(of.tiny)
        return here if self.rest is None else here + self.rest.tolerance(dtype)


def sum_in_runs(terms: np.ndarray, run: int, axis: int = -1) -> Rounding:
    """Of the sum of the terms, made of runs in the plan's dtype that are joined in float64."""
    scale, length = np.sqrt((terms * terms).sum(axis)), terms.shape[axis]
    return Rounding(scale, min(length, run)) + Rounding(scale, length, "float64")


def error_ratio(got: np.ndarray, want: np.ndarray, rounding: Rounding, dtype: str) -> float:
    """The largest error over its tolerance. Raises AssertionError for a wrong shape, NaN and infinity."""
    tolerance = rounding.tolerance(dtype)
    _assert_comparable(got, want)
    assert np.isfinite(tolerance).all(), "tolerance: not finite"
    ratio = np.abs(got.astype(np.float64) - want) / np.broadcast_to(tolerance, want.shape)
    return float(ratio.max())


def assert_close(got: np.ndarray, want: np.ndarray, rounding: Rounding, dtype: str) -> None:
    """Raises AssertionError unless every element lies within its tolerance."""
    ratio = error_ratio(got, want, rounding, dtype)
    assert ratio <= 1, f"largest error {ratio:.3g} times its tolerance"


def assert_same_bits(got: np.ndarray, want: np.ndarray) -> None:
    """Raises AssertionError unless shape, dtype and every bit agree, and for NaN or infinity."""
    _assert_comparable(got, want)
    assert got.dtype == want.dtype, f"dtype {got.dtype}, expected {want.dtype}"
    word = f"u{got.dtype.itemsize}"
    wrong = np.argwhere(np.ascontiguousarray(got).view(word) != np.ascontiguousarray(want).view(word))
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        raise AssertionError(f"{len(wrong)} of {got.size} differ, first {at}: {got[at]!r}, expected {want[at]!r}")


def assert_ulps(got: np.ndarray, want: np.ndarray, units: float) -> None:
    """Raises AssertionError unless got lies within so many units in the last place of want (float64), and for NaN."""
    _assert_comparable(got, want)
    error = np.abs(got.astype(np.float64) - want) / np.spacing(np.abs(want).astype(got.dtype)).astype(np.float64)
    assert error.max() <= units, f"largest error {error.max():.3g} units in the last place"


def _assert_comparable(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert got.size, "nothing to compare"
    for name, array in (("result", got), ("expectation", want)):
        assert np.isfinite(array).all(), f"{name}: {np.count_nonzero(~np.isfinite(array))} of {array.size} not finite"


def assert_gradient(function: Callable[[Values], float], values: Values, gradients: Mapping[str, np.ndarray]) -> None:
    """Raises AssertionError unless each of `gradients` (by the name of its variable in `values`, float64) agrees with
    central differences of the function."""
    for name, gradient in gradients.items():
        want = _differences(function, values, name)
        assert gradient.shape == want.shape, f"d {name}: shape {gradient.shape}, expected {want.shape}"
        assert np.isfinite(gradient).all(), f"d {name}: not finite"
        error, largest = np.abs(gradient - want).max(), np.abs(want).max()
        assert largest > 0, f"d {name}: the function does not depend on it"
        assert error <= GRADIENT * largest, f"d {name}: error {error:.3g}, largest entry {largest:.3g}"


def _differences(function: Callable[[Values], float], values: Values, name: str) -> np.ndarray:
    x = values[name].copy()
    slope = np.empty_like(x)
    for i in np.ndindex(x.shape):
        middle, h = x[i], 1e-5 * max(1.0, abs(x[i]))
        ends = []
        for end in (middle - h, middle + h):
            x[i] = end
            ends.append((function({**values, name: x.copy()}), end))
        slope[i] = (ends[1][0] - ends[0][0]) / (ends[1][1] - ends[0][1])
        x[i] = middle
    return slope


class Ledger:
    """The worst error over tolerance of each output of each op, and the case it came from."""

    def __init__(self) -> None:
        self.worst: dict[tuple[str, str, str], tuple[float, str]] = {}

    def record(self, op: str, output: str, dtype: str, ratio: float, case: str) -> None:
        key = op, output, dtype
        self.worst[key] = max(self.worst.get(key, (0.0, case)), (ratio, case))

    def assert_tight(self, ops: set[str]) -> None:
        """Raises AssertionError for an output of these ops whose tolerance is too loose, and for an op without any."""
        worst: dict[tuple[str, str], float] = {}
        for (op, output, _), (ratio, _) in self.worst.items():
            if op in ops:
                worst[op, output] = max(worst.get((op, output), 0.0), ratio)
        missing = ops - {op for op, _ in worst}
        assert not missing, f"no case of {', '.join(sorted(missing))} was measured"
        loose = [f"{op} {output}: {ratio:.3g}" for (op, output), ratio in worst.items() if ratio < LOOSE]
        assert not loose, f"worst error over tolerance below {LOOSE}: {'; '.join(loose)}"

    def table(self) -> list[str]:
        """A line for each output."""
        return [
            f"{op:<27}{output:<15}{dtype:<9}{ratio:>6.3f}  {case}"
            for (op, output, dtype), (ratio, case) in sorted(self.worst.items())
        ]


LEDGER = Ledger()
