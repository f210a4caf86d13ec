"""What the calls of a plan launch on a GPU, as data. Nothing here needs a GPU, a compiler or CuPy.

A module ``<op>_cuda`` holds kernels, and in LAUNCHES, by the names of ops, the functions that emit their launches. Kernels
read the scalars of a run from the clock, an int64 array on the device, so that one recording serves every step and every
number of rows up to the capacity.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from . import OPS
from .signature import Size, size_of

try:
    import triton
    from triton import language
except ImportError:  # kernels that were compiled ahead of time need no compiler
    triton = language = None

tl: Any = language

# Places in the clock. STATUS is 0, or why the run ended; DATA_ROWS and BATCH are those of a training run.
ROWS, STEP, EPOCH, OFFSET, ITERATION, SAMPLE, SEED, STATUS, DATA_ROWS, BATCH = range(10)
CLOCK_SIZE = 10
NOT_FINITE, OUT_OF_RANGE = 1, 2

# A weight (out, in + 1) lies transposed: a row for each input and the bias as the last, round_up(out, PITCH) wide.
PITCH = 16

_MOST_BLOCKS = 2**31 - 1, 65535, 65535  # of a grid
_MOST_ROWS = 2**31 - 2**16

# Updates wait for each other, and are one launch, as long as nothing needs their weights.
_GROUPED = "linear_backward_update"
# Two calls that one kernel does, if the first one's output is this argument of the second.
_PAIRS = {("shuffle_forward", "gather_forward"): "row"}


class Kernel:
    """The source of a kernel: a function in Triton's language ("triton") or in that of Numba's CUDA compiler ("numba")."""

    def __init__(self, function: Callable[..., None], language: str) -> None:
        self.function, self.language, self.name = function, language, function.__name__
        self.parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.jit = triton.jit(function) if language == "triton" and triton else None
        made = _MADE.setdefault(function.__module__, [])
        self._number = len(made)
        made.append(self)

    @property
    def path(self) -> str:
        """Its module and name."""
        return f"{self.function.__module__}.{self.name}"

    def __reduce__(self) -> tuple[Callable[[str, int], Kernel], tuple[str, int]]:
        return _kernel_at, (self.function.__module__, self._number)


_MADE: dict[str, list[Kernel]] = {}  # by module, in the order of their making


def _kernel_at(module: str, number: int) -> Kernel:
    importlib.import_module(module)
    return _MADE[module][number]


def triton_kernel(function: Callable[..., None]) -> Kernel:
    """A kernel in Triton's language. Parameters in capitals are constants that it is compiled for."""
    return Kernel(function, "triton")


def numba_kernel(function: Callable[..., None]) -> Kernel:
    """A kernel in the language of Numba's CUDA compiler."""
    return Kernel(function, "numba")


def device_function(function: Any) -> Any:
    """A function that Triton kernels call."""
    return triton.jit(function) if triton else function


@dataclass(frozen=True)
class Operand:
    """A buffer as a launch sees it."""

    name: str
    dtype: str
    dims: tuple[Size, ...]

    def size(self, axis: int) -> int:
        """A size as kernels take it: a constant, or minus that many for each row of the run."""
        value, unit = self.dims[axis]
        return -value if unit == "rows" else value

    @property
    def pitch(self) -> int:
        """How far the rows of a weight lie apart."""
        return round_up(self.dims[0][0], PITCH)


@dataclass(frozen=True)
class Table:
    """Rows of operands and integers, which the device holds as an int64 array: addresses and numbers."""

    rows: tuple[tuple[Operand | int, ...], ...]


Value = Operand | Table | int | float | None


@dataclass(frozen=True)
class Launch:
    """A kernel over a grid, with its arguments by name. ints are passed as int32, floats as float64; constants are what
    the kernel is compiled for. threads: of each block. calls: what it does, by their place in the plan."""

    kernel: Kernel
    grid: tuple[int, int, int]
    threads: int
    arguments: Mapping[str, Value]
    constants: Mapping[str, Any]
    calls: tuple[int, ...]

    def operands(self) -> list[Operand]:
        """The buffers that it touches."""
        flat = [v for a in self.arguments.values() for v in (sum(a.rows, ()) if isinstance(a, Table) else (a,))]
        return [v for v in flat if isinstance(v, Operand)]


class Emitter:
    """Collects the launches of a plan bound to a capacity of rows."""

    def __init__(self, capacity: int, precision: str = "ieee") -> None:
        """precision: of the products of float32 matrices, "ieee" or "tf32"."""
        self.capacity, self.precision = capacity, precision
        self.launches: list[Launch] = []
        self._scratches = 0
        self.calls: tuple[int, ...] = ()

    def most(self, size: int) -> int:
        """The largest value of a size. Raises OverflowError for rows that no int32 counts to the end of a tile."""
        most = size if size >= 0 else -size * self.capacity
        if most > _MOST_ROWS:
            raise OverflowError(f"rows: expected at most {_MOST_ROWS} in one run on the GPU, got {most}")
        return most

    def scratch(self, elements: int, dtype: str = "float64") -> Operand:
        """Memory for numbers that one launch leaves to the next, or needs for itself. It holds anything."""
        self._scratches += 1
        return Operand(f"{SCRATCH}{self._scratches}", dtype, ((elements, ""),))

    def __call__(self, kernel: Kernel, *grid: int, threads: int = 128, **arguments: Any) -> None:
        """Appends a launch. The clock is given to a kernel that has a parameter `clock`. Nothing is launched over an empty
        grid. Raises OverflowError for one that no GPU takes."""
        if not prod(grid):
            return
        if any(blocks > most for blocks, most in zip(grid, _MOST_BLOCKS)):
            raise OverflowError(f"{kernel.name}: a grid of {' x '.join(map(str, grid))} blocks is more than a GPU takes")
        if "clock" in kernel.parameters:
            arguments["clock"] = CLOCK
        missing = set(kernel.parameters) ^ arguments.keys()
        if missing:
            raise TypeError(f"{kernel.name}: parameter {min(missing)!r} is missing or unknown")
        self.launches.append(
            Launch(
                kernel,
                (*grid, 1, 1)[:3],  # type: ignore[arg-type]
                threads,
                {name: arguments[name] for name in kernel.parameters if not name.isupper()},
                {name: arguments[name] for name in kernel.parameters if name.isupper()},
                self.calls,
            )
        )


CLOCK = Operand("clock:", "int64", ((CLOCK_SIZE, ""),))
SCRATCH = "scratch:"  # what the names of such operands begin with


def round_up(n: int, to: int) -> int:
    """The least multiple of `to` that is not below n."""
    return -(-n // to) * to


def divide_up(n: int, by: int) -> int:
    """How many pieces of `by` cover n."""
    return -(-n // by)


@functools.cache
def _emitters() -> dict[str, Callable[..., None]]:
    """All LAUNCHES."""
    found: dict[str, Callable[..., None]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.endswith("_cuda"):
            found |= getattr(importlib.import_module(f"{__package__}.{module.name}"), "LAUNCHES", {})
    return found


def _emitter(name: str) -> Callable[..., None]:
    if name not in _emitters():
        raise NotImplementedError(f"backend 'cuda': {name} has no GPU kernel")
    return _emitters()[name]


def launches_of(plan: Any, capacity: int, precision: str = "ieee") -> list[Launch]:
    """The launches of one run of a plan. Raises NotImplementedError for an op without a GPU kernel, OverflowError for sizes
    beyond what kernels count to."""
    for b in plan.buffers.values():
        if b.layout == "weight" and b.elements(0) + b.shape[1] * PITCH >= 2**31:
            raise OverflowError(f"{b.name}: expected fewer than 2**31 weights on the GPU, got {b.elements(0)}")
    emit = Emitter(capacity, precision if plan.dtype == "float32" else "ieee")
    operands = {b.name: Operand(b.name, b.dtype, tuple(map(size_of, b.shape))) for b in plan.buffers.values()}
    for group in _order(plan):
        calls = [plan.calls[i] for i in group]
        name = " ".join(dict.fromkeys(call.op for call in calls))
        bound = [
            {a.name: operands.get(b) for a, b in zip(OPS[c.op].arguments, c.arguments, strict=True)} | dict(c.options)
            for c in calls
        ]
        emit.calls = tuple(group)
        if name == _GROUPED:
            _emitter(name)(emit, bound)
        else:
            _emitter(name)(emit, **functools.reduce(lambda a, b: a | b, bound))
    return emit.launches


def _order(plan: Any) -> list[list[int]]:
    """The calls in the order of their launches, those of one launch together."""
    order: list[list[int]] = []
    waiting: list[int] = []
    for i, call in enumerate(plan.calls):
        made = _made(call)
        if any(_conflict(plan.calls[w], call, made) for w in waiting):
            order.append(waiting)
            waiting = []
        if call.op == _GROUPED:
            waiting.append(i)
            continue
        before = plan.calls[order[-1][0]] if order and len(order[-1]) == 1 else None
        shared = before and _PAIRS.get((before.op, call.op))
        if before and shared and before.arguments[0] == _argument(call, shared):
            order[-1].append(i)
        else:
            order.append([i])
    return [*order, waiting] if waiting else order


def _made(call: Any) -> set[str | None]:
    """What a call writes to."""
    return set(call.arguments[: OPS[call.op].outputs])


def _argument(call: Any, name: str) -> str | None:
    names = [a.name for a in OPS[call.op].arguments]
    return call.arguments[names.index(name)]


def _conflict(update: Any, call: Any, made: set[str | None]) -> bool:
    """Whether a call reads or writes what a waiting update writes, or writes what it reads."""
    written = _made(update)
    shared_scalars = {_argument(update, "learning_rate")}
    return bool(written & set(call.arguments) or (made & set(update.arguments)) - shared_scalars - {None})


def describe_launches(plan: Any, rows: int) -> str:
    """A plan as the kernels that it launches: for each its calls, grid, FLOPs and bytes: each buffer once, a state that it
    changes twice, and of data as many rows as are gathered; and the sum beside the floor, what a run must move at least:
    inputs, states and outputs, by the same count."""
    lines, total = [f"plan {plan.name} ({plan.dtype}) on cuda, {rows} rows"], [0, 0]
    launches, states = launches_of(plan, rows), {b.name for b in plan.of_role("state")}
    size = {name: b.bytes(rows) for name, b in plan.buffers.items()}
    size |= {_argument(c, "x"): size[_argument(c, "y")] for c in plan.calls if c.op == "gather_forward"}
    for launch in launches:
        flops = sum(plan.cost(plan.calls[i], rows)[0] for i in launch.calls)
        changed = {name for i in launch.calls for name in _made(plan.calls[i]) & states}
        moved = sum(size[name] for name in [*({o.name for o in launch.operands()} & size.keys()), *changed])
        total = [total[0] + flops, total[1] + moved]
        calls = ", ".join(f"{i}: {plan.calls[i].op}" for i in launch.calls)
        grid = " x ".join(map(str, launch.grid))
        lines.append(f"  {launch.kernel.name:<28} {grid:>14}  {calls:<60} {flops:>14,} FLOP {moved:>12,} B")
    changed = {name for call in plan.calls for name in _made(call) & states}
    floor = sum(size[name] for name in [*(b.name for b in plan.buffers.values() if b.role != "temporary"), *changed])
    lines.append(f"  {len(launches)} kernels {'total':<96} {total[0]:>14,} FLOP {total[1]:>12,} B (floor {floor:,} B)")
    return "\n".join(lines)
