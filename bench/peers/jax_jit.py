"""JAX: jitted inference on constant weights, and one jit of the whole training step with donated state."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from . import LEARNING_RATE, Calls, Network, Parameters, Peer, fitted

State = Any


class Contestant(Peer):
    """Limited by the CPU affinity of its process, from which XLA takes its number of threads at start."""

    def __init__(self, threads: int, weights: str = "float32") -> None:
        super().__init__(threads, weights)
        jax.config.update("jax_cpu_enable_async_dispatch", False)

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        run = self.jitted(network, parameters, task)
        return [lambda rows=rows: run(rows).block_until_ready() for rows in map(jnp.asarray, inputs)]

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
        Path(path).write_bytes(jax.export.export(self.jitted(network, parameters, task))(shape).serialize())

    def jitted(self, network: Network, parameters: Parameters, task: str) -> Callable[[jax.Array], jax.Array]:
        """The network as one function."""
        functions = {"identity": lambda v: v, "relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
        layers = network.layers(parameters, task)

        @jax.jit
        def run(value: jax.Array) -> jax.Array:
            for layer in layers:
                value = functions[layer.activation](value @ layer.weight.T + layer.bias)
            return value

        return run

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        step = jax.jit(functools.partial(train_step, network), donate_argnums=0)
        state, rows = start(parameters), jnp.asarray(data[:batch])

        def run(steps: int) -> float:
            nonlocal state
            for _ in range(steps):
                state, loss = step(state, rows)
            return float(loss)

        return run

    def epoch(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[], float]:
        whole, rest = divmod(len(data), batch)

        def run(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
            key, own = jax.random.split(state["key"])
            order = jax.random.permutation(own, len(rows))
            batches = order[: whole * batch].reshape(whole, batch)
            state, losses = jax.lax.scan(
                lambda s, index: train_step(network, s, rows[index]), {**state, "key": key}, batches
            )
            total = losses.sum() * batch
            if rest:
                state, loss = train_step(network, state, rows[order[whole * batch :]])
                total += loss * rest
            return state, total / len(rows)

        jitted = jax.jit(run, donate_argnums=0)
        state, rows = start(parameters), jnp.asarray(data)

        def call() -> float:
            nonlocal state
            state, loss = jitted(state, rows)
            return float(loss)

        return call

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        jax.config.update("jax_enable_x64", a.dtype == np.float64)
        run = jax.jit(jnp.linalg.eigh if task == "eigh" else lambda x: jnp.linalg.svd(x, full_matrices=False))
        matrices = jnp.asarray(a)
        return lambda: jax.block_until_ready(run(matrices))

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        jax.config.update("jax_enable_x64", False)

        @jax.jit
        def run(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
            centred = rows - rows.mean(0)
            w, v = jnp.linalg.eigh(centred.T @ centred / (len(rows) - 1))
            return w[: -k - 1 : -1], v.T[: -k - 1 : -1]

        rows = jnp.asarray(x)
        return lambda: jax.block_until_ready(run(rows))

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        jax.config.update("jax_enable_x64", False)
        mean, components = fitted(x, k)
        run, row = jax.jit(lambda row: (row - mean) @ components), jnp.asarray(x[:1])
        return lambda: run(row).block_until_ready()

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        jax.config.update("jax_enable_x64", False)

        @jax.jit
        def run(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
            centred = rows - rows.mean(1, keepdims=True)
            w, v = jnp.linalg.eigh(centred.mT @ centred / (rows.shape[1] - 1))
            return w[:, ::-1], v.mT[:, ::-1]

        rows = jnp.asarray(x)
        return lambda: jax.block_until_ready(run(rows))


def start(parameters: Parameters) -> State:
    def zeros() -> dict[str, jax.Array]:
        return {name: jnp.zeros(value.shape, jnp.float32) for name, value in parameters.items()}

    p = {name: jnp.array(value) for name, value in parameters.items()}
    return {"p": p, "m": zeros(), "v": zeros(), "t": jnp.float32(0), "key": jax.random.key(0)}


def _loss(network: Network, p: dict[str, jax.Array], x: jax.Array, key: jax.Array) -> jax.Array:
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[network.activation]

    def linear(name: str, v: jax.Array) -> jax.Array:
        return v @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def hidden(half: str, v: jax.Array) -> jax.Array:
        for i in range(network.depth):
            v = activation(linear(f"{half}.{i}", v))
        return v

    mean, log_variance = jnp.split(linear("latent", hidden("encoder", x)), 2, axis=1)
    samples = () if network.samples == 1 else (network.samples,)
    noise = jax.random.normal(key, (len(x), *samples, network.latent))
    if samples:
        x, mean, spread = x[:, None], mean[:, None], jnp.exp(0.5 * log_variance)[:, None]
    else:
        spread = jnp.exp(0.5 * log_variance)
    z = mean + spread * noise
    logits = linear(f"decoder.{network.depth}", hidden("decoder", z))
    loss = jnp.sum(jnp.maximum(logits, 0) - x * logits + jnp.log1p(jnp.exp(-jnp.abs(logits))), axis=-1)
    if samples:
        ratio = 0.5 * (jnp.sum(noise**2 - z**2, axis=2) + jnp.sum(log_variance, axis=1, keepdims=True))
        return math.log(network.samples) - jnp.mean(jax.nn.logsumexp(ratio - loss, axis=1))
    kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)
    return (jnp.sum(loss) + kl) / len(x)


def train_step(network: Network, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    key, own = jax.random.split(state["key"])
    loss, gradient = jax.value_and_grad(_loss, argnums=1)(network, state["p"], x, own)
    t = state["t"] + 1
    rate, scale = LEARNING_RATE / (1 - 0.9**t), jax.lax.rsqrt(1 - 0.999**t)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["m"], gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["v"], gradient)
    p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * scale + 1e-8), state["p"], m, v)
    return {"p": p, "m": m, "v": v, "t": t, "key": key}, loss
