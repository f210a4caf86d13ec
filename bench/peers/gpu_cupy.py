"""CuPy: what one writes with it in NumPy's terms, cuBLAS and cuSOLVER beneath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from . import Network, Parameters, Peer


class Contestant(Peer):
    def __init__(self, threads: int, device: str) -> None:
        super().__init__(threads)

    def host(self, output: Any) -> np.ndarray:
        return cupy.asnumpy(output)

    def wait(self) -> None:
        cupy.cuda.get_current_stream().synchronize()

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        layers = network.layers(parameters, task)
        rows, weights = cupy.asarray(x), [(cupy.asarray(layer.weight.T), cupy.asarray(layer.bias)) for layer in layers]

        def call() -> Any:
            value = rows
            for layer, (weight, bias) in zip(layers, weights, strict=True):
                value = value @ weight + bias
                if layer.activation == "relu":
                    value = cupy.maximum(value, 0)
                elif layer.activation == "sigmoid":
                    value = 1 / (1 + cupy.exp(-value))
            return value

        return call

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        matrices = cupy.asarray(a)

        def call() -> Any:
            made = cupy.linalg.svd(matrices, full_matrices=False) if task == "svd" else cupy.linalg.eigh(matrices)
            self.wait()
            return made

        return call

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        rows = cupy.asarray(x)

        def call() -> tuple[Any, Any]:
            centred = rows - rows.mean(0)
            w, v = cupy.linalg.eigh(centred.T @ centred / (len(rows) - 1))
            self.wait()
            return w[: -k - 1 : -1], v.T[: -k - 1 : -1]

        return call
