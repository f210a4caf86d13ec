"""Layers write their forward calls and, beside them, their backward calls into a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from .ops import Dim
from .ops.linear import KEEPS_INPUT
from .plan import Plan

MOMENTS = (":m", ":v")  # what follows the name of a weight in those of Adam's first and second moments


class Kept(NamedTuple):
    """What a layer's forward pass leaves for its backward pass: its input, its sums (where needed) and its output."""

    x: str
    before: str | None
    y: str


class Linear(NamedTuple):
    """y = activation(x W' + b)."""

    name: str
    inputs: int
    outputs: int
    activation: str = "identity"

    def forward(
        self, plan: Plan, x: str, rows: Dim, *, tag: str = "", output: str | None = None, train: bool = True
    ) -> Kept:
        """Appends the forward call; output: a buffer to write to, else a temporary."""
        y = output or plan.temporary(f"{tag}{self.name}:y", rows, self.outputs)
        keeps = train and self.activation in KEEPS_INPUT
        before = plan.temporary(f"{tag}{self.name}:before", rows, self.outputs) if keeps else None
        w = plan.weight(self.name, self.outputs, self.inputs)
        plan.call("linear_forward", y=y, before=before, x=x, w=w, activation=self.activation)
        return Kept(x, before, y)


class Sink(ABC):
    """What becomes of a weight gradient. role: that of the buffers of gradients that are kept."""

    role = "temporary"

    @abstractmethod
    def __call__(self, plan: Plan, layer: Linear, dy: str, x: str) -> None:
        """Appends what the gradient of a layer needs: dy of its sums, x its input."""


def forward(
    plan: Plan,
    layers: Sequence[Linear],
    x: str,
    rows: Dim = "rows",
    *,
    tag: str = "",
    output: str | None = None,
    train: bool = True,
) -> list[Kept]:
    """Appends the forward calls of a stack of layers; `output` takes what the last one puts out. tag: a prefix for the
    buffers, where one plan runs the same layers twice."""
    kept: list[Kept] = []
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        kept.append(layer.forward(plan, x, rows, tag=tag, output=output if last else None, train=train))
        x = kept[-1].y
    return kept


def backward(
    plan: Plan,
    layers: Sequence[Linear],
    kept: Sequence[Kept],
    dy: str,
    sink: Sink | None,
    rows: Dim = "rows",
    *,
    dx: str | None = None,
    below: tuple[str, str | None] = ("identity", None),
    tag: str = "",
) -> None:
    """Appends the backward calls of a stack of layers, top to bottom. dy is the gradient of the last layer's sums. An input
    gradient comes before its weights are updated. dx: where the gradient of the stack's input goes, multiplied with the
    derivative of the activation `below` that made it (its name and its sums); sink None: no weight gradients."""
    for i in reversed(range(len(layers))):
        layer = layers[i]
        if i > 0:
            to: str | None = plan.temporary(f"{tag}{layer.name}:dx", rows, layer.inputs)
            activation, before = layers[i - 1].activation, kept[i - 1].before
        else:
            to, (activation, before) = dx, below
        if to is not None:
            plan.call("linear_backward_input", dx=to, dy=dy, w=layer.name, x=kept[i].x, before=before, activation=activation)
        if sink is not None:
            sink(plan, layer, dy, kept[i].x)
        dy = to or dy


class Store(Sink):
    """Keeps each gradient in a buffer of its own, the layer's name and a suffix."""

    def __init__(self, role: str = "temporary", suffix: str = ":gradient", accumulate: bool = False) -> None:
        self.role, self.suffix, self.accumulate = role, suffix, accumulate

    def __call__(self, plan: Plan, layer: Linear, dy: str, x: str) -> None:  # noqa: D102
        dw = plan.weight(layer.name + self.suffix, layer.outputs, layer.inputs, self.role)
        plan.call("linear_backward_weight", dw=dw, dy=dy, x=x, accumulate=self.accumulate)


class Update(Sink):
    """Hands each gradient to Adam while it is in cache."""

    def __init__(self, weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay

    def __call__(self, plan: Plan, layer: Linear, dy: str, x: str) -> None:  # noqa: D102
        m, v = moments(plan, layer.name, layer.outputs, layer.inputs)
        plan.call(
            "linear_backward_update",
            w=layer.name, m=m, v=v, dy=dy, x=x, learning_rate="learning_rate", weight_decay=self.weight_decay,
        )  # fmt: skip


def moments(plan: Plan, name: str, out: int, inputs: int) -> tuple[str, str]:
    """Declares Adam's two moments of a weight."""
    m, v = (plan.weight(name + kind, out, inputs) for kind in MOMENTS)
    return m, v


def apply_stored(
    plan: Plan,
    weights: Sequence[tuple[str, int, int]],
    max_norm: float | None = None,
    weight_decay: float = 0.0,
    suffix: str = ":gradient",
) -> None:
    """Appends Adam over stored gradients of the weights (name, out, in), clipped to a global norm if there is one."""
    squared = None
    if max_norm is not None:
        squared = plan.temporary("squared_norm", 1, dtype="float64")
        for i, (name, _, _) in enumerate(weights):
            plan.call("norm_forward", squared=squared, g=name + suffix, accumulate=i > 0)
    for name, out, inputs in weights:
        m, v = moments(plan, name, out, inputs)
        plan.call(
            "adam_update",
            w=name, m=m, v=v, g=name + suffix, learning_rate="learning_rate", squared=squared,
            max_norm=max_norm or 0.0, weight_decay=weight_decay,
        )  # fmt: skip
