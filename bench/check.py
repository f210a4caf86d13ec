"""What a contestant of the neural half must show before it is timed."""

from __future__ import annotations

import numpy as np

CHECK_STEPS = 20
ROUNDED = {"float16": 2e-3, "int8": 3e-2, "int8_dynamic": 3e-2}
"""What rounding may cost, of the largest output."""


def inference_fault(output: np.ndarray, truth: np.ndarray, length: int, weights: str = "float32") -> str | None:
    """None if it is within 10 eps sqrt(length), or what rounding to fewer bits costs, of truth (float64), relative to its
    largest entry; else the fault."""
    if output.shape != truth.shape or output.dtype != np.float32:
        return f"gave {output.dtype} {output.shape}, expected float32 {truth.shape}"
    error = np.abs(output - truth).max() / np.abs(truth).max()
    bound = ROUNDED.get(weights, 10 * np.finfo(np.float32).eps * length**0.5)
    return None if error <= bound else f"off by {error:.1e} of the largest output, allowed {bound:.1e}"


def training_fault(losses: list[float], first: float | None, consensus: float) -> str | None:
    """None if the losses are finite, start within 2 % of `first`, decline, and end within 3 % of `consensus`."""
    if not np.isfinite(losses).all():
        return "a loss is not finite"
    if first is not None and not abs(losses[0] - first) <= 0.02 * first:
        return f"first loss {losses[0]:.2f}, expected {first:.2f}"
    if first is not None and not losses[-1] < losses[0]:
        return f"the loss went from {losses[0]:.2f} to {losses[-1]:.2f}"
    if not abs(losses[-1] - consensus) <= 0.03 * consensus:
        return f"last loss {losses[-1]:.2f}, the others' median {consensus:.2f}"
    return None
