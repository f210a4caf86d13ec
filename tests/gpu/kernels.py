"""A case of ``cases`` on the GPU backend: the kernels against the reference, between canaries, twice with the same bits."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np
from cases import Case, exactly, truth, values_of
from numerics import Values, assert_same_bits, error_ratio

from latentcore.backends.cuda import CudaBackend
from latentcore.plan import Buffer, Plan

ON_GPU = os.environ.get("LATENTCORE_TEST_DEVICE") == "cuda"
SPARE = 3  # rows that a plan is bound to beyond those of the run


def plan_of(case: Case, dtype: str) -> Plan:
    """A plan of one call. What is updated in place is state where it does not grow with the rows."""
    plan, spec, made = Plan(case.op, dtype), case.spec, values_of(case, dtype)
    for i, a in enumerate(spec.arguments):
        if not case.has(a.name):
            continue
        dims = case.dims(a)
        held = a.name in made and all(isinstance(d, int) for d in dims)
        if a.layout == "weight":
            plan.weight(a.name, *dims, role="state" if held else "output")
        elif i >= spec.outputs:
            plan.input(a.name, *dims, dtype=a.dtype)
        else:
            (plan.state if held else plan.output)(a.name, *dims, dtype=a.dtype)
    plan.call(case.op, **{a.name: a.name for a in spec.arguments if case.has(a.name)}, **case.options)
    return plan


class Fenced:
    """An array of the device between canaries, aligned as the device's own are."""

    EDGE = 512

    def __init__(self, backend: CudaBackend, buffer: Buffer, shape: tuple[int, ...]) -> None:
        item = np.dtype(buffer.dtype).itemsize
        self.size = prod(shape) * item
        self.whole = backend.device.zeros((self.size + 2 * self.EDGE,), "uint8")
        self.whole[...] = 0xFF  # NaN, or a row number beyond any data
        self.array = self.whole[self.EDGE : self.EDGE + self.size].view(buffer.dtype).reshape(shape)

    def assert_whole(self, device: Any, name: str) -> None:
        bytes_ = device.read(self.whole)
        assert (bytes_[: self.EDGE] == 0xFF).all(), f"{name}: written before its begin"
        assert (bytes_[self.EDGE + self.size :] == 0xFF).all(), f"{name}: written past its end"


def execute(case: Case, dtype: str, backend: CudaBackend) -> Values:
    """The outputs of a run, arrays (out, in + 1) for weights."""
    plan, values, device = plan_of(case, dtype), values_of(case, dtype), backend.device
    memory: dict[str, Fenced] = {}
    for b in plan.buffers.values():
        shape = backend.allocate(b).shape if b.layout == "weight" else b.array_shape(case.rows)
        memory[b.name] = Fenced(backend, b, shape)
        if b.name in values:
            backend.put(memory[b.name].array, values[b.name])
    outputs = [a.name for a in case.outputs()]
    before = {name: device.read(fenced.array) for name, fenced in memory.items()}
    state = {b.name: memory[b.name].array for b in plan.of_role("state")}
    arrays = {name: fenced.array for name, fenced in memory.items()}
    backend.bind(plan, case.rows + SPARE, state).run(arrays, case.moment())
    for name, fenced in memory.items():
        fenced.assert_whole(device, name)
        if name not in outputs:
            assert device.read(fenced.array).tobytes() == before[name].tobytes(), f"{name}: an input was written to"
    results: Values = {}
    for name in outputs:
        b, array = plan.buffers[name], device.read(memory[name].array)
        results[name] = backend.get(memory[name].array, b)
        if b.layout == "weight":
            assert not array[0, :, b.array_shape(0)[0] :].any(), f"{name}: the padding is not 0"
    return results


def assert_agrees(case: Case, dtype: str, backend: CudaBackend) -> dict[str, float]:
    """Raises AssertionError unless two runs give the same bits and agree with the reference within the rounding of each
    output. Returns what part of its tolerance each output used."""
    got, want = execute(case, dtype, backend), truth(case, dtype)
    for name, again in execute(case, dtype, backend).items():
        assert_same_bits(again, got[name])
    model = case.rounding(case, exactly(case, dtype), want) if case.rounding else {}
    for name in got.keys() - model.keys():
        assert_same_bits(got[name], want[name].astype(got[name].dtype))
    ratios = {name: error_ratio(got[name], want[name], model[name], dtype) for name in got.keys() & model.keys()}
    for name, ratio in ratios.items():
        assert ratio <= 1, f"{name}: largest error {ratio:.3g} times its tolerance"
    return ratios


def the_backend() -> CudaBackend:
    """On the GPU, or interpreted."""
    if ON_GPU:
        from latentcore.backends.device import CupyDevice

        return CudaBackend(CupyDevice())
    from interpreted import InterpretedDevice

    return CudaBackend(InterpretedDevice())
