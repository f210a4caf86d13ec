"""Whole plans on the GPU backend: training steps and inference, against the reference backend."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numerics import assert_same_bits

import latentcore as lc
from latentcore.backends import Backend, NonFiniteError, get_backend
from latentcore.ops import Clock
from latentcore.ops.launches import launches_of
from latentcore.training import Trainer

ROWS, FEATURES, BATCH = 21, 20, 8
X = np.random.default_rng(0).random((ROWS, FEATURES))
MODELS = {
    "VAE": lambda dtype: lc.VAE(3, (17,), random_state=0, batch_size=BATCH, dtype=dtype),
    "clipped": lambda dtype: lc.VAE(
        2, (9, 5), random_state=0, batch_size=BATCH, dtype=dtype, max_grad_norm=0.5, activation="gelu"
    ),
    "importance": lambda dtype: lc.VAE(2, (9,), random_state=0, batch_size=BATCH, dtype=dtype, importance_samples=3),
    "learned variance": lambda dtype: lc.VAE(
        2, (9,), random_state=0, batch_size=BATCH, dtype=dtype, likelihood="gaussian", variance="learned"
    ),
    "Autoencoder": lambda dtype: lc.Autoencoder(3, (17,), random_state=0, batch_size=BATCH, dtype=dtype),
}


def train(
    model: Any, backend: Backend, steps: int, rate: float = 1e-2
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The states of a training plan after so many steps from the model's weights, the metrics and the progress."""
    trainer = Trainer(model, X)
    plan, cpu = trainer.plan, get_backend("cpu")
    states = plan.of_role("state")
    held = {b.name: backend.allocate(b) for b in states}
    for b in states:
        backend.put(held[b.name], cpu.get(model._storage[b.name], b))
    bound = backend.bind(plan, BATCH, held)
    metrics, progress = np.full((steps, trainer.width), np.nan), np.zeros(3, np.int64)
    arrays = {
        "data": trainer.X,
        "learning_rate": np.full(steps, rate),
        "beta": np.linspace(0.5, 1, steps),
        "metrics": metrics,
    }
    bound.train(arrays, progress, model.seed_, ROWS, BATCH, steps)
    return {b.name: backend.get(held[b.name], b) for b in states}, metrics, progress


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_training_agrees_with_the_reference(name, dtype, backend):
    """Four steps, the third of them a smaller batch, the fourth of the next epoch."""
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    got, metrics, progress = train(MODELS[name](dtype), backend, 4)
    want, expected, position = train(MODELS[name](dtype), get_backend("reference"), 4)
    assert progress.tolist() == position.tolist() == [4, 1, BATCH]
    np.testing.assert_allclose(metrics, expected, rtol=tolerance, atol=tolerance)
    for state, values in want.items():
        scale = np.abs(values).max()
        assert np.abs(got[state] - values).max() <= tolerance * scale + 1e-30, state


def test_training_gives_the_same_bits_again_and_in_slices(backend):
    whole, _, _ = train(MODELS["VAE"]("float32"), backend, 3)
    again, _, _ = train(MODELS["VAE"]("float32"), backend, 3)
    for name, values in whole.items():
        assert_same_bits(again[name], values)


def test_a_step_that_is_not_finite_changes_nothing(backend):
    model = MODELS["VAE"]("float32")
    model.initialize(FEATURES)
    model.set_parameters({k: v * 1e30 for k, v in model.parameters().items()})
    with pytest.raises(NonFiniteError):
        train(model, backend, 2)


def test_a_training_step_is_at_most_sixteen_kernels():
    model = lc.VAE(20, (400,), random_state=0).initialize(784)
    plan = model._plan("train", data_rows=60000, fused=True, max_norm=None, weight_decay=0.0)
    launches = launches_of(plan, 128)
    assert len(launches) + 1 <= 16, "and one that moves the clock on"
    assert sorted(i for launch in launches for i in launch.calls) == list(range(len(plan.calls)))
    text = plan.describe("cuda", 128)
    assert text.count("FLOP") == len(launches) + 1
    moved, floor = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) B", text.splitlines()[-1]))
    weights = sum(plan.buffers[b.name].bytes(128) for b in plan.of_role("state"))
    assert 2 * weights + 128 * 784 * 4 < floor < 2 * weights + 129 * 784 * 4, "of the data, what is gathered"
    assert floor < moved < 2 * floor


@pytest.mark.parametrize("function", ["encode", "decode", "reconstruct", "score_samples"])
def test_inference_agrees_with_the_reference(function, backend):
    model = MODELS["VAE"]("float32").initialize(FEATURES)
    plan, cpu, reference = model._plan(function), get_backend("cpu"), get_backend("reference")
    (source,), made = plan.of_role("input"), plan.of_role("output")
    x = np.random.default_rng(1).random(source.array_shape(5)).astype(source.dtype)
    results = []
    for engine in (backend, reference):
        held = {b.name: engine.allocate(b) for b in plan.of_role("state")}
        for b in plan.of_role("state"):
            engine.put(held[b.name], cpu.get(model._storage[b.name], b))
        out = {b.name: np.full(b.array_shape(5), np.nan, b.dtype) for b in made}
        engine.bind(plan, 8, held).run({source.name: x, **out}, Clock(rows=5, seed=3))
        results.append(out)
    for name, got in results[0].items():
        np.testing.assert_allclose(got, results[1][name], rtol=1e-4, atol=1e-5)
