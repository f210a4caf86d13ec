"""A plan: a flat list of op calls over named buffers. Plain data: it prints, it compares, it goes into a file.

A dimension is an int, ``"rows"`` or ``"c*rows"`` (the rows of a run, or c of them for each), or ``"steps"`` (the steps of
one call of a training run).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .ops import OPS, Dim, Op, Size, size_of

ROLES = ("input", "output", "state", "temporary")


def rows(times: int = 1) -> str:
    """The dimension ``times * rows``."""
    return "rows" if times == 1 else f"{times}*rows"


class Buffer(NamedTuple):
    """A named array of a plan. layout "weight": a linear layer's (out, in) weight and its bias, kept as a backend likes."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str
    role: str
    layout: str = "array"

    def elements(self, rows: int, steps: int = 1) -> int:
        """How many elements a plain array of this shape has; a weight counts its bias."""
        units = {"": 1, "rows": rows, "steps": steps}
        sizes = [value * units[unit] for value, unit in map(size_of, self.shape)]
        return sizes[0] * (sizes[1] + 1) if self.layout == "weight" else math.prod(sizes)

    def array_shape(self, rows: int, steps: int = 1) -> tuple[int, ...]:
        """The shape of a plain array in a run of so many rows and steps."""
        units = {"": 1, "rows": rows, "steps": steps}
        return tuple(value * units[unit] for value, unit in map(size_of, self.shape))

    def bytes(self, rows: int, steps: int = 1) -> int:
        """What a plain array of this shape takes."""
        return self.elements(rows, steps) * (8 if self.dtype == "float64" else 4)


class Call(NamedTuple):
    """One op over the buffers of a plan: names in the order of the op's signature, None where absent."""

    op: str
    arguments: tuple[str | None, ...]
    options: Mapping[str, Any]


class Plan:
    """A list of calls under construction; what a model hands to a backend."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.name, self.dtype = name, dtype
        self.buffers: dict[str, Buffer] = {}
        self.calls: list[Call] = []

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Plan) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _add(self, name: str, shape: Iterable[Dim], dtype: str | None, role: str, layout: str = "array") -> str:
        buffer = Buffer(name, tuple(shape), dtype or self.dtype, role, layout)
        for dim in buffer.shape:
            size_of(dim)
        if self.buffers.setdefault(name, buffer) != buffer:
            raise ValueError(f"buffer {name!r}: declared twice in different ways in plan {self.name!r}")
        return name

    def input(self, name: str, *shape: Dim, dtype: str | None = None) -> str:
        """Declares an array that the caller brings to a run."""
        return self._add(name, shape, dtype, "input")

    def output(self, name: str, *shape: Dim, dtype: str | None = None) -> str:
        """Declares an array that a run fills."""
        return self._add(name, shape, dtype, "output")

    def temporary(self, name: str, *shape: Dim, dtype: str | None = None) -> str:
        """Declares an array of the arena."""
        return self._add(name, shape, dtype, "temporary")

    def state(self, name: str, *shape: Dim, dtype: str | None = None) -> str:
        """Declares an array that outlives a run: held at the binding, read or updated in place."""
        return self._add(name, shape, dtype, "state")

    def weight(self, name: str, out: int, inputs: int, role: str = "state") -> str:
        """Declares a weight and its bias: a model's parameter ("state"), or a gradient ("temporary" or "output")."""
        return self._add(name, (out, inputs), None, role, "weight")

    def call(self, op: str, **arguments: Any) -> None:
        """Appends a call: buffers and options by name. Raises ValueError where they do not fit the op's signature."""
        spec = OPS.get(op)
        if spec is None:
            raise ValueError(f"op: expected one of {', '.join(sorted(OPS))}, got {op!r}")
        options = {**spec.options, **{k: arguments.pop(k) for k in list(arguments) if k in spec.options}}
        unknown = set(arguments) - {a.name for a in spec.arguments}
        if unknown:
            raise ValueError(f"{op}: unknown argument {sorted(unknown)[0]!r}; the signature is {spec.signature}")
        call = Call(op, tuple(arguments.get(a.name) for a in spec.arguments), options)
        self.sizes(call)
        self.calls.append(call)

    def sizes(self, call: Call) -> dict[str, Size]:
        """The sizes of a call, by the letters of its op's signature. Raises ValueError where the shapes disagree."""
        return OPS[call.op].unify([self._described(name) for name in call.arguments], call.options, self.dtype)

    def _described(self, name: str | None) -> tuple[str, str, str, list[Size]] | None:
        if name is None:
            return None
        if name not in self.buffers:
            raise ValueError(f"buffer {name!r}: not declared in plan {self.name!r}")
        b = self.buffers[name]
        return name, b.layout, b.dtype, [size_of(d) for d in b.shape]

    def of_role(self, role: str) -> list[Buffer]:
        """The buffers of one role, in the order of their declaration."""
        return [b for b in self.buffers.values() if b.role == role]

    def cost(self, call: Call, rows: int) -> tuple[int, int]:
        """(FLOPs, bytes moved) of a call over so many rows, each argument counted once."""
        spec = OPS[call.op]
        sizes = {k: v * (rows if unit == "rows" else 1) for k, (v, unit) in self.sizes(call).items()}
        moved = sum(self.buffers[a].bytes(rows) for a in call.arguments if a is not None)
        return int(spec.flops(sizes, call.options)), moved

    def describe(self, backend: str = "cpu", rows: int = 1) -> str:
        """The plan as a table: each call with its buffers, FLOPs and bytes for a run of so many rows; for the backend
        "cuda" each kernel that is launched, with the calls that it does."""
        if backend == "cuda":
            from .ops.launches import describe_launches  # loads the compiler where there is one

            return describe_launches(self, rows)
        lines = [f"plan {self.name} ({self.dtype}), {rows} rows"]
        for role in ROLES:
            declared = ", ".join(_declaration(b) for b in self.of_role(role))
            if declared:
                lines.append(f"  {role}: {declared}")
        total = [0, 0]
        for call in self.calls:
            flops, moved = self.cost(call, rows)
            total = [total[0] + flops, total[1] + moved]
            spec: Op = OPS[call.op]
            names = [a or "-" for a in call.arguments]
            text = f"{', '.join(names[: spec.outputs])} = {call.op}({', '.join(names[spec.outputs :])})"
            shown = [f"{k}={v}" for k, v in call.options.items() if v != spec.options[k]]
            lines.append(f"  {' '.join([text, *shown]):<100} {flops:>14,} FLOP {moved:>12,} B")
        lines.append(f"  {'total':<100} {total[0]:>14,} FLOP {total[1]:>12,} B")
        return "\n".join(lines)

    __str__ = describe

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able data."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "buffers": [
                {"name": b.name, "shape": list(b.shape), "dtype": b.dtype, "role": b.role, "layout": b.layout}
                for b in self.buffers.values()
            ],
            "calls": [{"op": c.op, "arguments": list(c.arguments), "options": dict(c.options)} for c in self.calls],
        }


def _declaration(b: Buffer) -> str:
    shape = ", ".join(map(str, b.shape))
    return f"{b.name}{{{shape}}}" if b.layout == "weight" else f"{b.name}({shape})"
