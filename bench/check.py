"""What a contestant must show before it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cases import Case, Inputs
from .network import activations, expected_loss

CHECK_STEPS = 20


def verdicts(case: Case, inputs: Inputs, evidence: dict[str, Any]) -> dict[str, str]:
    """Why a contestant is refused, by name; whoever passes is not in it."""
    if not evidence:
        return {}
    if case.trains:
        return _training(case, inputs, evidence)
    layers = case.network.layers(inputs.parameters(case.network), case.function)
    truth = activations(layers, inputs.rows(case))[-1]
    reasons = {name: inference_fault(output, truth, case.network.features) for name, output in evidence.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def inference_fault(output: np.ndarray, truth: np.ndarray, length: int) -> str | None:
    """None if it is within 10 eps sqrt(length) of truth (float64), relative to its largest entry; else the fault."""
    if output.shape != truth.shape or output.dtype != np.float32:
        return f"gave {output.dtype} {output.shape}, expected float32 {truth.shape}"
    error = np.abs(output - truth).max() / np.abs(truth).max()
    bound = 10 * np.finfo(np.float32).eps * length**0.5
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


def _training(case: Case, inputs: Inputs, evidence: dict[str, list[float]]) -> dict[str, str]:
    """An epoch is judged by its mean loss alone, which the median of all contestants must confirm."""
    first = None
    if case.task == "train step":
        first = expected_loss(inputs.parameters(case.network), inputs.rows(case)[: case.batch])
    consensus = float(np.median([losses[-1] for losses in evidence.values()]))
    reasons = {name: training_fault(losses, first, consensus) for name, losses in evidence.items()}
    return {name: reason for name, reason in reasons.items() if reason}
