"""The vocabulary of plans beyond the models of the package: the two steps of an adversarial pair, and the
importance-weighted bound, each on both backends with its gradients checked."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numerics import Rounding, assert_gradient, error_ratio

import latentcore as lc
from latentcore.backends import Bound, get_backend
from latentcore.layers import Kept, Linear, Store, apply_stored, backward, forward
from latentcore.ops import Clock
from latentcore.plan import Buffer, Plan

BACKENDS = ("reference", "cpu")


class Runner:
    """Plans on one backend over weights of their own, drawn from a seed."""

    def __init__(self, backend: str, layers: list[Linear], dtype: str, seed: int = 0) -> None:
        self.backend, self.dtype = get_backend(backend), dtype
        draw = np.random.default_rng(seed)
        self.buffers, self.state = {}, {}
        for layer in layers:
            for kind in ("", ":m", ":v"):
                buffer = Buffer(layer.name + kind, (layer.outputs, layer.inputs), dtype, "state", "weight")
                self.buffers[buffer.name], self.state[buffer.name] = buffer, self.backend.allocate(buffer)
            initial = draw.normal(size=(layer.outputs, layer.inputs + 1)) / math.sqrt(layer.inputs)
            self.put(layer.name, initial.astype(np.float32))
        self.bound: dict[str, Bound] = {}

    def put(self, name: str, array: np.ndarray) -> None:
        self.backend.put(self.state[name], array)

    def get(self, name: str) -> np.ndarray:
        return self.backend.get(self.state[name], self.buffers[name])

    def run(self, plan: Plan, n: int, step: int = 0, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of one pass over n rows, in the plain layout."""
        if plan.name not in self.bound:
            self.bound[plan.name] = self.backend.bind(plan, n, self.state)
        outputs = {
            b.name: self.backend.allocate(b) if b.layout == "weight" else np.full(b.array_shape(n), np.nan, b.dtype)
            for b in plan.of_role("output")
        }
        given = {b.name: np.ascontiguousarray(inputs[b.name], b.dtype) for b in plan.of_role("input")}
        self.bound[plan.name].run({**given, **outputs}, Clock(rows=n, step=step, seed=5))
        return {
            b.name: self.backend.get(outputs[b.name], b) if b.layout == "weight" else outputs[b.name]
            for b in plan.of_role("output")
        }


def check_gradients(runner: Runner, layers: list[Linear], outputs: dict[str, np.ndarray], loss: Callable[[], float]) -> None:
    """The gradients among the outputs are those of these layers alone, and those of the loss."""
    gradients = {name.removesuffix(":gradient"): g for name, g in outputs.items() if name.endswith(":gradient")}
    weights = {layer.name: runner.get(layer.name) for layer in layers}
    assert gradients.keys() == weights.keys()

    def moved(values: dict[str, np.ndarray]) -> float:
        for name, value in values.items():
            runner.put(name, value)
        return loss()

    assert_gradient(moved, weights, gradients)


def check_agreement(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], dtype: str, length: int) -> None:
    """Outputs of the cpu against those of the reference; length: of all the sums that they went through."""
    assert actual.keys() == expected.keys()
    for name, want in expected.items():
        ratio = error_ratio(actual[name], want, Rounding(float(np.abs(want).max()), length), dtype)
        print(f"{name}: {ratio:.3f} of the tolerance")
        assert ratio <= 1, name


# ---- an adversarial pair (Goodfellow et al. 2014) --------------------------------------------------------------------

LATENT, FEATURES, ROWS = 3, 2, 33
GENERATOR = [Linear("generator.0", LATENT, 17, "silu"), Linear("generator.1", 17, FEATURES)]
DISCRIMINATOR = [Linear("discriminator.0", FEATURES, 19, "tanh"), Linear("discriminator.1", 19, 1)]


def weights(layers: list[Linear]) -> list[tuple[str, int, int]]:
    return [(layer.name, layer.outputs, layer.inputs) for layer in layers]


def judge(plan: Plan, x: str, tag: str, target: str) -> tuple[list[Kept], str]:
    """The discriminator on rows of x, its loss an output; returns what backward needs."""
    kept = forward(plan, DISCRIMINATOR, x, tag=tag)
    loss = plan.output(f"{tag}loss", "rows", dtype="float64")
    dlogits = plan.temporary(f"{tag}dlogits", "rows", 1)
    plan.call("bernoulli_forward", loss=loss, dlogits=dlogits, logits=kept[-1].y, x=plan.input(target, "rows", 1))
    return kept, dlogits


def discriminator_step(dtype: str, update: bool) -> Plan:
    """Real rows against ones, generated rows against zeros."""
    plan = Plan(f"discriminator, update={update}", dtype)
    real = plan.input("real", "rows", FEATURES)
    z = plan.temporary("z", "rows", LATENT)
    plan.call("normal_forward", z=z, stream=7)
    fake = forward(plan, GENERATOR, z, train=False)[-1].y
    for x, tag, target in ((real, "real:", "ones"), (fake, "fake:", "zeros")):
        kept, dlogits = judge(plan, x, tag, target)
        backward(plan, DISCRIMINATOR, kept, dlogits, Store("output", accumulate=tag == "fake:"), tag=tag)
    if update:
        plan.input("learning_rate", "steps", dtype="float64")
        apply_stored(plan, weights(DISCRIMINATOR))
    return plan


def generator_step(dtype: str, update: bool) -> Plan:
    """Generated rows against ones, through a discriminator that stays as it is."""
    plan = Plan(f"generator, update={update}", dtype)
    z = plan.temporary("z", "rows", LATENT)
    plan.call("normal_forward", z=z, stream=8)
    made = forward(plan, GENERATOR, z)
    kept, dlogits = judge(plan, made[-1].y, "", "ones")
    dfake = plan.temporary("dfake", "rows", FEATURES)
    backward(plan, DISCRIMINATOR, kept, dlogits, None, dx=dfake)
    backward(plan, GENERATOR, made, dfake, Store("output"))
    if update:
        plan.input("learning_rate", "steps", dtype="float64")
        apply_stored(plan, weights(GENERATOR))
    return plan


STEPS = {"discriminator": (discriminator_step, DISCRIMINATOR), "generator": (generator_step, GENERATOR)}


def arrays(rate: float = 0.01) -> dict[str, np.ndarray]:
    """What both steps take: real rows on an arc, the two targets, the learning rate."""
    angle = np.random.default_rng(1).random(ROWS).astype(np.float32)
    real = np.stack([2 + np.cos(angle), np.sin(angle) - 1], 1)
    return {"real": real, "ones": np.ones((ROWS, 1)), "zeros": np.zeros((ROWS, 1)), "learning_rate": np.array([rate])}


def loss_of(outputs: dict[str, np.ndarray]) -> float:
    return sum(float(value.mean()) for name, value in outputs.items() if name.endswith("loss"))


@pytest.mark.parametrize("step", STEPS)
def test_gradients_of_an_adversarial_pair(step: str) -> None:
    build, trained = STEPS[step]
    plan = build("float64", False)
    runner = Runner("reference", GENERATOR + DISCRIMINATOR, "float64")
    outputs = runner.run(plan, ROWS, **arrays())
    check_gradients(runner, trained, outputs, lambda: loss_of(runner.run(plan, ROWS, **arrays())))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", STEPS)
def test_backends_agree_on_an_adversarial_pair(step: str, dtype: str) -> None:
    """A gradient goes through four layers both ways, and a sum over the rows. Only what the step trains moves."""
    build, trained = STEPS[step]
    layers = GENERATOR + DISCRIMINATOR
    runners = [Runner(name, layers, dtype) for name in BACKENDS]
    expected, actual = (runner.run(build(dtype, True), ROWS, **arrays()) for runner in runners)
    check_agreement(actual, expected, dtype, 2 * sum(layer.inputs for layer in layers) + 2 * ROWS)
    for runner in runners:
        fresh = Runner(runner.backend.name, layers, dtype)
        for layer in layers:
            moved = np.abs(runner.get(layer.name) - fresh.get(layer.name)).max()
            # Adam's first step has the length of the learning rate
            assert moved == pytest.approx(0.01 if layer in trained else 0, rel=1e-3)


def test_alternating_steps_move_the_pair() -> None:
    """Each step lowers its own loss while the other rests; together they bring the generated rows to the real ones."""
    plans = [build("float64", True) for build, _ in STEPS.values()]
    runner = Runner("cpu", GENERATOR + DISCRIMINATOR, "float64")
    for plan in plans:
        losses = [loss_of(runner.run(plan, ROWS, step, **arrays())) for step in range(40)]
        assert losses[-1] < 0.7 * losses[0], plan.name

    look = Plan("look", "float64")
    z = look.temporary("z", "rows", LATENT)
    look.call("normal_forward", z=z, stream=9)
    forward(look, GENERATOR, z, output=look.output("made", "rows", FEATURES), train=False)
    reference, cpu = (Runner(name, GENERATOR + DISCRIMINATOR, "float64") for name in BACKENDS)

    def distance() -> float:
        return float(np.linalg.norm(cpu.run(look, ROWS)["made"].mean(0) - arrays()["real"].mean(0)))

    before = distance()
    for step in range(1000):
        for plan in plans:
            loss = loss_of(cpu.run(plan, ROWS, step, **arrays(0.003)))
            if step < 30:
                assert loss == pytest.approx(loss_of(reference.run(plan, ROWS, step, **arrays(0.003))), rel=1e-10)
    print(f"distance of the means: {before:.2f} before, {distance():.2f} after")
    assert distance() < 0.25 * before


# ---- the importance-weighted bound (Burda et al. 2016) ---------------------------------------------------------------


@pytest.mark.parametrize("samples", [2, 5])
def test_importance_weighted_vae(samples: int) -> None:
    """With noise that the plan draws itself, the same in both directions and on both backends."""
    n, features, latent_dim = 9, 11, 3
    model = lc.VAE(latent_dim, (8, 7), activation="tanh", dtype="float64").initialize(features)
    plan = model.plan("gradients", samples=samples)
    layers = model._encoder() + model._decoder()
    inputs = {"x": np.random.default_rng(2).random((n, features)), "beta": np.array([0.8]), "row": np.arange(n)[::-1]}
    reference, cpu = (Runner(name, layers, "float64") for name in BACKENDS)
    expected = reference.run(plan, n, **inputs)
    check_gradients(reference, layers, expected, lambda: reference.run(plan, n, **inputs)["metrics"][0, 0])
    length = 2 * sum(layer.inputs for layer in layers) + samples * n
    check_agreement(cpu.run(plan, n, **inputs), expected, "float64", length)
