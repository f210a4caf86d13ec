"""JAX on a GPU: products in full float32, all the steps of a call in one program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import Network, Parameters, jax_jit
from .on_gpu import OnGpu


class Contestant(OnGpu, jax_jit.Contestant):
    def __init__(self, threads: int, device: str) -> None:
        super().__init__(threads)
        jax.config.update("jax_default_matmul_precision", "highest")
        self.last: Any = ()

    def wait(self) -> None:
        jax.block_until_ready(self.last)

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        run, rows = self.jitted(network, parameters, task), jnp.asarray(x)

        def call() -> jax.Array:
            self.last = run(rows)
            return self.last

        return call

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        state, rows = jax_jit.start(parameters), jnp.asarray(data[:batch])

        @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
        def program(state: jax_jit.State, steps: int) -> tuple[jax_jit.State, jax.Array]:
            state, losses = jax.lax.scan(lambda s, _: jax_jit.train_step(network, s, rows), state, length=steps)
            return state, losses[-1]

        def run(steps: int) -> float:
            nonlocal state
            state, loss = program(state, steps)
            return float(loss)

        return run
