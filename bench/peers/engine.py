"""latentcore: compiled functions with `out=`, whole training steps on a bound plan, and the calls that a user makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import latentcore as lc
from latentcore.training import Trainer

from . import LEARNING_RATE, Calls, Network, Parameters, Peer


class Contestant(Peer):
    def __init__(self, threads: int, weights: str = "float32") -> None:
        super().__init__(threads, weights)
        lc.set_num_threads(threads)
        self.backend = "auto"

    def put(self, x: np.ndarray) -> Any:
        """An array where the backend computes."""
        return x

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        batch, model = len(inputs[0]), self.model(network, parameters)
        run = lc.compile(model, task, batch=batch, weights=self.weights, threads=self.threads)
        out = np.empty((batch, network.width(task)), np.float32)
        return [lambda x=x: run(x, out=out) for x in inputs]

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        lc.save(self.model(network, parameters), path)

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        model = self.model(network, parameters)
        trainer = Trainer(model, data, batch_size=batch, learning_rate=LEARNING_RATE, random_state=0)
        return lambda steps: trainer.run(steps)[-1, 0]

    def epoch(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[], float]:
        model = self.model(network, parameters)

        def call() -> float:
            history = lc.train(model, data, epochs=1, batch_size=batch, learning_rate=LEARNING_RATE, progress=False)
            return float(history["loss"][-1])

        return call

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        matrices = self.put(a)
        return (lambda: lc.svd(matrices)) if task == "svd" else (lambda: lc.eigh(matrices))

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        rows = self.put(x)

        def call() -> tuple[np.ndarray, np.ndarray]:
            model = lc.PCA(k, svd_solver="covariance_eigh").fit(rows)
            return model.explained_variance_, model.components_

        return call

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        run = lc.compile(lc.PCA(k, svd_solver="covariance_eigh").fit(x), "transform", threads=self.threads)
        row, out = np.ascontiguousarray(x[:1]), np.empty((1, k), np.float32)

        def call() -> np.ndarray:
            run(row, out=out)
            return out

        return call

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        def call() -> tuple[np.ndarray, np.ndarray]:
            model = lc.BatchedPCA().fit(x)
            return model.explained_variance_, model.components_

        return call

    def model(self, network: Network, parameters: Parameters) -> lc.VAE:
        """A VAE of that network."""
        model = lc.VAE(
            network.latent, (network.hidden,) * network.depth, activation=network.activation,
            importance_samples=network.samples, backend=self.backend, random_state=0,
        )  # fmt: skip
        model.initialize(network.features)
        model.set_parameters(parameters)
        return model
