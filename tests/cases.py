"""A case: one op at one size. From its description come the finite differences of its reference, the comparison of
every CPU kernel with the reference, and the worst error over tolerance of each output.

An op runs as a plan of one call. Arrays lie one element off a cache line inside larger ones that are canaries, NaN if
read; outputs and the workspace hold NaN before a run. Each kernel runs with one thread and with two, which must give
the same bits.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import pytest
from numerics import LEDGER, Rounding, Values, assert_gradient, assert_same_bits, error_ratio

from latentcore import _core
from latentcore.backends import Backend, get_backend
from latentcore.ops import OPS, Argument, Clock, Op
from latentcore.plan import Buffer, Dim, Plan, size_of

DTYPES = ("float32", "float64")
SETS = tuple(_core.instruction_sets())
# Rows that a plan is bound to beyond those of the run.
SPARE = 3
# A gradient whose packing fills the workspace with NaN, 128 KiB of it or more, and its input.
POISON = {"poison:dy": np.full((2000, 16), np.nan), "poison:x": np.full((2000, 1), np.nan)}

Maker = Callable[[np.random.Generator, tuple[int, ...]], Any]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.01, 1, shape)


def unit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Data in [0, 1], a third of it 0 and a third 1."""
    return np.clip(rng.uniform(-1, 2, shape), 0, 1)


def fractions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0, 1, shape)


def constant(value: float) -> Maker:
    return lambda rng, shape: np.full(shape, value)


def given(array: np.ndarray) -> Maker:
    return lambda rng, shape: array.reshape(shape)


def away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal(shape)
    return np.copysign(np.abs(x) + 0.1, x)


def wide(limit: float) -> Maker:
    """Both zeros, +-limit, and every magnitude between."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        x = rng.choice([-1.0, 1.0], shape) * limit ** rng.uniform(-1, 1, shape)
        edge = rng.choice([-limit, limit, 0.0, -0.0], shape)
        return np.where(rng.random(shape) < 0.4, edge, x)

    return draw


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Nine of ten elements are a zero of either sign, as are a whole row and a whole column."""
    x = np.where(rng.random(shape) < 0.9, rng.choice([0.0, -0.0], shape), rng.standard_normal(shape))
    x[len(x) // 2], x[:, shape[1] // 2] = 0, 0
    return x


def denormal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Half of it normal, a quarter denormal in float32, a quarter denormal in float64."""
    scale = rng.choice([1.0, 1.0, 1e-40, 1e-310], shape)
    return rng.standard_normal(shape) * scale


@dataclass(frozen=True, eq=False)
class Case:
    """sizes: the letters of the signature, rows where they are left out. inputs: how arguments are made (standard
    normal where left out), outputs that are updated in place among them. rounding: from the values and the results, the
    model of each output; the bits of what it leaves out are compared. objective: a function of the values, and in
    `gradients` the outputs that are its derivatives by which values."""

    op: str
    rows: int
    sizes: Mapping[str, Dim]
    note: str = ""
    inputs: Mapping[str, Maker] = field(default_factory=dict)
    absent: Collection[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    clock: Mapping[str, int] = field(default_factory=dict)
    prepare: Callable[[Case, Values], None] | None = None
    rounding: Callable[[Case, Values, Values], Mapping[str, Rounding]] | None = None
    objective: Callable[[Case, Values], float] | None = None
    gradients: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = [f"{self.rows} rows", *(f"{name} {size}" for name, size in self.sizes.items())]
        options = [v if isinstance(v, str) else f"{k} {v}" for k, v in self.options.items() if v != self.spec.options[k]]
        absent = [f"no {a.name}" for a in self.spec.arguments if not self.has(a.name)]
        return ", ".join([self.op, *sizes, *options, *absent, *filter(None, [self.note])])

    @property
    def spec(self) -> Op:
        return OPS[self.op]

    def option(self, name: str) -> Any:
        return self.options.get(name, self.spec.options[name])

    def has(self, argument: str) -> bool:
        return argument not in self.absent

    def outputs(self) -> list[Argument]:
        return [a for a in self.spec.arguments[: self.spec.outputs] if self.has(a.name)]

    def moment(self) -> Clock:
        return Clock(self.rows, **self.clock)

    def dims(self, argument: Argument) -> tuple[Dim, ...]:
        """The shape that a plan declares for an argument."""
        return tuple(self._dim(d) for d in argument.dims)

    def _dim(self, text: str) -> Dim:
        head, _, letter = text.rpartition("*")
        if letter == "steps" or letter.isdecimal():
            return letter if letter == "steps" else int(letter)
        times = int(self.option(head) if head in self.spec.options else head or 1)
        value, unit = size_of(self.sizes.get(letter, "rows"))
        return f"{times * value}*{unit}" if unit else times * value


@functools.cache
def values_of(case: Case, dtype: str) -> Values:
    """The values of a case by the name of their argument: arrays of its dtype, weights as (out, in + 1)."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    values: Values = {}
    for i, a in enumerate(case.spec.arguments):
        if i >= case.spec.outputs or a.name in case.inputs:
            values[a.name] = case.inputs.get(a.name, normal)(rng, _shape(case, a))
    if case.prepare:
        case.prepare(case, values)
    wanted = {a.name: a.dtype or dtype for a in case.spec.arguments}
    return {name: np.asarray(v, wanted.get(name, "float64")) for name, v in values.items()}


def _shape(case: Case, a: Argument) -> tuple[int, ...]:
    out, *rest = Buffer(a.name, case.dims(a), "", "").array_shape(case.rows)
    return (out, rest[0] + 1) if a.layout == "weight" else (out, *rest)


def exactly(case: Case, dtype: str) -> Values:
    """The values as the formulas see them: the same numbers in float64, denormal ones 0."""
    exact = {}
    for name, v in values_of(case, dtype).items():
        if v.dtype.kind == "f":
            v = np.where(np.abs(v) < np.finfo(v.dtype).tiny, np.copysign(0, v), v).astype(np.float64)
        exact[name] = v
    return exact


def plan_of(case: Case, dtype: str) -> Plan:
    """A plan of one call, after one that spoils the workspace and a copy of what is updated in place (what does not grow
    with the rows is state, and needs none)."""
    plan = Plan(case.op, dtype)
    poison = {"dw": plan.weight("poison:dw", 16, 1, role="temporary")}
    poison |= {name.partition(":")[2]: plan.input(name, *array.shape) for name, array in POISON.items()}
    plan.call("linear_backward_weight", **poison)
    spec, made = case.spec, values_of(case, dtype)
    for i, a in enumerate(spec.arguments):
        if not case.has(a.name):
            continue
        dims = case.dims(a)
        if a.layout == "weight":
            plan.weight(a.name, *dims, role="state" if a.name in made else "output")
        elif i >= spec.outputs:
            plan.input(a.name, *dims, dtype=a.dtype)
        elif a.name in made and all(isinstance(d, int) for d in dims):
            plan.state(a.name, *dims, dtype=a.dtype)
        else:
            plan.output(a.name, *dims, dtype=a.dtype)
            if a.name in made:
                plan.input(f"{a.name}:given", *dims)
                plan.input(f"{a.name}:row", dims[0], dtype="uint32")
                plan.call("gather_forward", y=a.name, x=f"{a.name}:given", row=f"{a.name}:row")
    plan.call(case.op, **{a.name: a.name for a in spec.arguments if case.has(a.name)}, **case.options)
    return plan


class Guarded:
    """An array one element off a cache line, between canaries."""

    EDGE, CANARY = 512, 0xFF

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        item = np.dtype(dtype).itemsize
        size = prod(shape) * item
        self.raw = np.full(size + 2 * self.EDGE + 64, self.CANARY, np.uint8)
        self.begin = -self.raw.ctypes.data % 64 + self.EDGE - 64 + item
        self.end = self.begin + size
        self.array = self.raw[self.begin : self.end].view(dtype).reshape(shape)

    def assert_whole(self, name: str) -> None:
        assert (self.raw[: self.begin] == self.CANARY).all(), f"{name}: written before its begin"
        assert (self.raw[self.end :] == self.CANARY).all(), f"{name}: written past its end"

    def result(self, name: str) -> np.ndarray:
        return self.array


class GuardedWeight:
    """A weight in a backend's layout, between two panels of canaries."""

    def __init__(self, backend: Backend, b: Buffer, panel: int, value: np.ndarray | None) -> None:
        self.backend, self.buffer = backend, b
        out, inputs = b.array_shape(0)
        self.whole = backend.allocate(b._replace(shape=(out + 2 * panel, inputs)))
        self.whole[...] = np.nan
        self.array = self.whole[1:-1]
        if value is not None:
            backend.put(self.array, value)

    def assert_whole(self, name: str) -> None:
        assert np.isnan(self.whole[[0, -1]]).all(), f"{name}: written outside its panels"

    def result(self, name: str) -> np.ndarray:
        plain = self.backend.get(self.array, self.buffer)
        padded = np.full_like(self.array, np.nan)
        self.backend.put(padded, plain)
        assert np.array_equal(padded, self.array, equal_nan=True), f"{name}: the padding of the last panel is not 0"
        return plain


def execute(case: Case, dtype: str, instruction_set: str | None = None, threads: int = 1) -> Values:
    """The outputs of a run on the reference in float64, or on a CPU instruction set."""
    reference = instruction_set is None
    backend = get_backend("reference" if reference else "cpu")
    plan, values = plan_of(case, dtype), (exactly if reference else values_of)(case, dtype)
    copied = {f"{name}:given": v for name, v in values.items()}
    brought = values | POISON | copied | {f"{name}:row": np.arange(len(v)) for name, v in values.items()}
    arrays: dict[str, Guarded] = {}
    weights: dict[str, GuardedWeight] = {}
    for b in plan.buffers.values():
        real = "float64" if reference and b.dtype == "float32" else b.dtype
        if b.layout == "weight":
            panel = 1 if reference else 64 // np.dtype(real).itemsize
            weights[b.name] = GuardedWeight(backend, b, panel, brought.get(b.name))
        else:
            arrays[b.name] = Guarded(b.array_shape(case.rows), real)
        if b.role == "input" or (b.role == "state" and b.name in arrays):
            arrays[b.name].array[...] = brought[b.name]
    outputs = [a.name for a in case.outputs()]
    everything: dict[str, Guarded | GuardedWeight] = {**arrays, **weights}
    before = {name: memory.array.copy() for name, memory in everything.items()}
    state = {b.name: everything[b.name].array for b in plan.of_role("state")}
    outside = {name: memory.array for name, memory in everything.items()}
    how = {} if reference else {"threads": threads, "instruction_set": instruction_set}
    backend.bind(plan, case.rows + SPARE, state, **how).run(outside, case.moment())
    for name, memory in everything.items():
        memory.assert_whole(name)
        if name not in outputs:
            assert memory.array.tobytes() == before[name].tobytes(), f"{name}: an input was written to"
    return {name: everything[name].result(name) for name in outputs}


@functools.cache
def truth(case: Case, dtype: str) -> Values:
    """What the reference puts out."""
    return execute(case, dtype)


def assert_agrees(case: Case, dtype: str, instruction_set: str) -> None:
    """Raises AssertionError unless one thread and two give the same bits, and those agree with the reference within the
    rounding of each output. Records what part of its tolerance each output used."""
    for output, ratio in _ratios(case, dtype, instruction_set).items():
        assert ratio <= 1, f"{output}: largest error {ratio:.3g} times its tolerance"


@functools.cache
def _ratios(case: Case, dtype: str, instruction_set: str) -> dict[str, float]:
    got, want = execute(case, dtype, instruction_set), truth(case, dtype)
    for name, shared in execute(case, dtype, instruction_set, threads=2).items():
        assert_same_bits(shared, got[name])
    model = case.rounding(case, exactly(case, dtype), want) if case.rounding else {}
    for name in got.keys() - model.keys():
        assert_same_bits(got[name], want[name].astype(got[name].dtype))
    ratios = {name: error_ratio(got[name], want[name], model[name], dtype) for name in got.keys() & model.keys()}
    for name, ratio in ratios.items():
        LEDGER.record(case.op, name, dtype, ratio, f"{case} on {instruction_set}")
    return ratios


def assert_tight(cases: Sequence[Case]) -> None:
    """Raises AssertionError for an op of whose tolerance no case uses a fair part."""
    for case in cases:
        for dtype in DTYPES:
            for instruction_set in SETS:
                _ratios(case, dtype, instruction_set)
    LEDGER.assert_tight({case.op for case in cases if case.rounding})


def assert_differentiates(case: Case) -> None:
    """Raises AssertionError unless the reference's gradients are those of the objective."""
    objective = case.objective
    assert objective, f"{case} has no objective"
    gradients = {variable: truth(case, "float64")[output] for output, variable in case.gradients.items()}
    assert_gradient(lambda values: objective(case, values), exactly(case, "float64"), gradients)


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """A test for each of the cases."""
    assert len({str(case) for case in cases}) == len(cases), "two cases of one name"
    return pytest.mark.parametrize("case", cases, ids=str)


def smooth(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """A test for each of the cases whose gradients can be compared with finite differences."""
    return each([case for case in cases if case.objective])


each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_set = pytest.mark.parametrize("instruction_set", SETS)
