"""Adam on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log
from typing import Any

from .elementary_cuda import is_whole
from .launches import ITERATION, STEP, Emitter, Operand, device_function, divide_up, tl, triton_kernel

_ITERATION, _STEP = (tl.constexpr(ITERATION), tl.constexpr(STEP)) if tl else (ITERATION, STEP)
_BLOCK = 1024


@device_function
def adam_step(clock, w, m, v, g, inside, learning_rate, log_beta1, log_beta2, beta1, beta2, epsilon, weight_decay):
    """One step on blocks of pointers to weights and moments. 1 - beta^t is computed in float64."""
    t = (tl.load(clock + _STEP) + 1).to(tl.float64)
    rate = tl.load(learning_rate + tl.load(clock + _ITERATION))
    kept = (1.0 - rate * weight_decay).to(g.dtype)
    by_mean = (rate / (1.0 - tl.exp(t * log_beta1))).to(g.dtype)
    by_square = (1.0 / (1.0 - tl.exp(t * log_beta2))).to(g.dtype)
    mean = tl.load(m, inside, other=0.0) * beta1.to(g.dtype) + g * (1.0 - beta1).to(g.dtype)
    square = tl.load(v, inside, other=0.0) * beta2.to(g.dtype) + g * g * (1.0 - beta2).to(g.dtype)
    tl.store(m, mean, inside)
    tl.store(v, square, inside)
    old = tl.load(w, inside, other=0.0)
    tl.store(w, old * kept - by_mean * mean / (tl.sqrt(square * by_square) + epsilon.to(g.dtype)), inside)


@triton_kernel
def adam_update_block(
    clock, w, m, v, g, squared, max_norm, o, i, pitch, learning_rate,
    log_beta1, log_beta2, beta1, beta2, epsilon, weight_decay, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of Adam for a gradient that was stored, first scaled to a norm of at most max_norm."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (place < (i + 1) * pitch) & (place % pitch < o)
    gradient = tl.load(g + place, inside, other=0.0)
    if squared is not None:
        scale = tl.minimum(1.0, max_norm / (tl.sqrt(tl.load(squared)) + 1e-6))
        gradient = gradient * scale.to(gradient.dtype)
    adam_step(
        clock, w + place, m + place, v + place, gradient, inside & is_whole(clock), learning_rate,
        log_beta1, log_beta2, beta1, beta2, epsilon, weight_decay,
    )  # fmt: skip


def adam_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel arguments that are options of the op, among other things, as float64."""
    numbers = {k: float(options[k]) for k in ("beta1", "beta2", "epsilon", "weight_decay")}
    logs = {f"log_{k}": log(numbers[k]) if numbers[k] else -inf for k in ("beta1", "beta2")}
    return numbers | logs


def adam_update(
    emit: Emitter, w: Operand, m: Operand, v: Operand, g: Operand, learning_rate: Operand, squared: Operand | None,
    *, max_norm: float, **options: Any,
) -> None:  # fmt: skip
    """Blocks of the weight as it lies."""
    out, inputs = w.dims[0][0], w.dims[1][0]
    emit(
        adam_update_block, divide_up((inputs + 1) * w.pitch, _BLOCK), w=w, m=m, v=v, g=g, squared=squared,
        max_norm=float(max_norm), o=out, i=inputs, pitch=w.pitch, learning_rate=learning_rate,
        **adam_arguments(options), BLOCK=_BLOCK,
    )  # fmt: skip


LAUNCHES = {"adam_update": adam_update}
