"""latentcore: compiled inference functions with `out=`, and whole training steps on a bound plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import latentcore as lc
from latentcore.training import Trainer

from . import LEARNING_RATE, Network, Parameters, Peer


class Contestant(Peer):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        lc.set_num_threads(threads)

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        run = lc.compile(_model(network, parameters), task, batch=len(x), threads=self.threads)
        out = np.empty((len(x), network.latent if task == "encode" else network.features), np.float32)

        def call() -> np.ndarray:
            run(x, out=out)
            return out

        return call

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        model = _model(network, parameters)
        trainer = Trainer(model, data, batch_size=batch, learning_rate=LEARNING_RATE, random_state=0)
        return lambda steps: trainer.run(steps)[-1, 0]

    def epoch(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[], float]:
        model = _model(network, parameters)

        def call() -> float:
            history = lc.train(model, data, epochs=1, batch_size=batch, learning_rate=LEARNING_RATE, progress=False)
            return float(history["loss"][-1])

        return call


def _model(network: Network, parameters: Parameters) -> lc.VAE:
    model = lc.VAE(latent_dim=network.latent, hidden=(network.hidden,), random_state=0)
    model.initialize(network.features)
    model.set_parameters(parameters)
    return model
