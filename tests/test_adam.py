"""Adam on stored gradients: the clip, the decay, the schedule, and the paper's own words."""

from __future__ import annotations

import numpy as np
import pytest
from cases import (
    Case,
    Values,
    assert_agrees,
    assert_tight,
    constant,
    denormal,
    each,
    each_dtype,
    each_set,
    exactly,
    execute,
    given,
    normal,
    positive,
    values_of,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits

from latentcore.backends import get_backend
from latentcore.ops.adam import ADAM, adam_update
from latentcore.ops.signature import Clock
from latentcore.plan import Plan


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    o, t = {**ADAM, "max_norm": 0.0, **case.options}, case.moment().step + 1
    g = np.abs(v["g"])
    if case.has("squared"):
        g = g * min(1.0, o["max_norm"] / (np.sqrt(v["squared"][0]) + 1e-6))
    m, rate = np.abs(o["beta1"] * v["m"]) + (1 - o["beta1"]) * g, v["learning_rate"][0]
    by = np.sqrt(out["v"] / (1 - o["beta2"] ** t)) + o["epsilon"]
    return {
        "m": Rounding(m),
        "v": Rounding(out["v"]),
        "w": Rounding(np.abs(v["w"]) + rate / (1 - o["beta1"] ** t) * m / by),
    }


def adam(outputs: int, inputs: int, note: str = "", step: int = 7, rate: float = 1e-2, **rest) -> Case:
    makers = {name: rest.pop(name) for name in list(rest) if name in ("w", "m", "v", "g", "squared")}
    return Case(
        "adam_update", 1, {"o": outputs, "i": inputs}, note, rounding=rounding, options=rest, clock={"step": step},
        inputs={"w": normal, "m": normal, "v": positive, "learning_rate": constant(rate), **makers},
        absent=() if "squared" in makers else ("squared",),
    )  # fmt: skip


START = {"step": 0, "m": constant(0), "v": constant(0)}
CASES = [
    *(adam(*shape) for shape in [(1, 1), (7, 1), (15, 7), (16, 16), (17, 33), (33, 63), (130, 129)]),
    adam(17, 33, "first step", **START),
    adam(17, 33, "first step, no gradient", g=constant(0), **START),
    adam(17, 33, "step 99999", step=99999),
    adam(17, 33, weight_decay=0.1),
    adam(17, 33, beta1=0.5, beta2=0.9, epsilon=1e-3),
    adam(17, 33, "clipped", squared=constant(400.0), max_norm=2.5),
    adam(17, 33, "within the norm", squared=constant(4.0), max_norm=2.5),
    adam(17, 33, "no norm", squared=constant(0.0), max_norm=2.5),
    adam(17, 33, "wide", g=wide(1e4), w=wide(1e4)),
    adam(17, 33, "denormal", g=denormal, m=denormal),
    adam(17, 33, "rate 0", rate=0.0),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


def test_reference_is_algorithm_1_of_the_paper():
    rng = np.random.default_rng(0)
    w, m, v = rng.standard_normal((3, 5, 8))
    m, v = 0 * m, 0 * v
    by_hand, first, second = w.copy(), m.copy(), v.copy()
    for t in range(1, 20):
        g = rng.standard_normal(w.shape)
        rate = 0.1 / t
        adam_update(w, m, v, g, np.array([rate]), None, clock=Clock(step=t - 1), **{**ADAM, "max_norm": 0.0})
        first, second = 0.9 * first + (1 - 0.9) * g, 0.999 * second + (1 - 0.999) * g**2
        by_hand = by_hand - rate * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)) ** 0.5 + 1e-8)
    assert_close(w, by_hand, Rounding(1 + np.abs(by_hand), 19), "float64")


@each_dtype
@each_set
def test_first_step_has_the_length_of_the_rate(dtype, instruction_set):
    g = np.array([[-1e4, 1e-3], [3.0, -40.0]])
    case = adam(2, 1, "length", rate=0.25, w=constant(0), g=given(g), **START)
    want = -0.25 * g / (np.abs(g) + 1e-8)
    assert_close(execute(case, dtype, instruction_set)["w"], want, Rounding(0.25), dtype)


@each_dtype
@each_set
def test_decay_alone_shrinks_the_weight(dtype, instruction_set):
    case = adam(3, 4, "decay", rate=0.5, weight_decay=0.1, w=constant(2), g=constant(0), **START)
    assert_close(execute(case, dtype, instruction_set)["w"], np.full((3, 5), 1.9), Rounding(2.0), dtype)


@each_dtype
@each_set
def test_clip_scales_the_gradient_to_the_norm(dtype, instruction_set):
    g = np.random.default_rng(5).standard_normal((17, 34))
    norm = np.sqrt((g * g).sum())
    clipped = adam(17, 33, "clip", g=given(g), squared=constant(norm**2), max_norm=0.5)
    held = {name: given(array) for name, array in values_of(clipped, dtype).items() if name in ("w", "m", "v")}
    scaled = adam(17, 33, "scaled", g=given(g * 0.5 / (norm + 1e-6)), **held)
    got, want = execute(clipped, dtype, instruction_set), execute(scaled, dtype)
    model = rounding(scaled, exactly(scaled, dtype), want)
    for name in got:
        assert_close(got[name], want[name], model[name], dtype)


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_run_of_steps_reads_its_schedule(name):
    rates, backend = np.array([0.5, 0.0, 0.125]), get_backend(name)
    plan = Plan("schedule", "float64")
    weights = [plan.weight(k, 3, 2) for k in ("w", "m", "v", "g")]
    plan.input("learning_rate", "steps", dtype="float64")
    plan.call("adam_update", **{k: k for k in weights}, learning_rate="learning_rate")

    def run(schedules: list[np.ndarray]) -> np.ndarray:
        state = {k: backend.allocate(plan.buffers[k]) for k in weights}
        backend.put(state["g"], np.ones((3, 3)))
        progress = np.zeros(3, np.int64)
        for schedule in schedules:
            bound = backend.bind(plan, 1, state)
            bound.train({"learning_rate": schedule}, progress, 0, data_rows=1, batch=1, steps=len(schedule))
        assert list(progress) == [3, 3, 0]
        return backend.get(state["w"], plan.buffers["w"])

    at_once = run([rates])
    assert_same_bits(run([rates[:1], rates[1:]]), at_once)
    assert_close(at_once, np.full((3, 3), -0.625 / (1 + 1e-8)), Rounding(0.625, 3), "float64")
