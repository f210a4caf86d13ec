"""NumPy on its BLAS, every intermediate preallocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import Calls, Network, Parameters, Peer, fitted


class Contestant(Peer):
    """Limited by OPENBLAS_NUM_THREADS and its kin, which are read when NumPy is imported."""

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        layers = network.layers(parameters, task)
        plan = [
            (layer, np.ascontiguousarray(layer.weight.T), np.empty((len(inputs[0]), len(layer.bias)), np.float32))
            for layer in layers
        ]

        def run(value: np.ndarray) -> np.ndarray:
            for layer, weight, out in plan:
                value = np.matmul(value, weight, out=out)
                value += layer.bias
                if layer.activation == "relu":
                    np.maximum(value, 0, out=value)
                elif layer.activation == "sigmoid":
                    np.negative(value, out=value)
                    np.exp(value, out=value)
                    value += 1
                    np.reciprocal(value, out=value)
            return value

        return [lambda x=x: run(x) for x in inputs]

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        return (lambda: np.linalg.svd(a, full_matrices=False)) if task == "svd" else (lambda: np.linalg.eigh(a))

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        def call() -> tuple[np.ndarray, np.ndarray]:
            centred = x - x.mean(0)
            w, v = np.linalg.eigh(centred.T @ centred / (len(x) - 1))
            return w[: -k - 1 : -1], v.T[: -k - 1 : -1]

        return call

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        row, (mean, components) = x[:1], fitted(x, k)
        return lambda: (row - mean) @ components

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        def call() -> tuple[np.ndarray, np.ndarray]:
            centred = x - x.mean(1, keepdims=True)
            w, v = np.linalg.eigh(centred.transpose(0, 2, 1) @ centred / (x.shape[1] - 1))
            return w[:, ::-1], v.transpose(0, 2, 1)[:, ::-1]

        return call
