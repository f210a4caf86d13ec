"""The contestants: one library a file, all behind the interface of `Peer`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..network import Layer as Layer
from ..network import Network as Network
from ..network import Parameters as Parameters

CONTESTANTS = {
    "latentcore": "engine",
    "torch": "torch_eager",
    "torch.compile": "torch_compiled",
    "JAX": "jax_jit",
    "ONNX Runtime": "onnx_runtime",
    "NumPy": "numpy_blas",
    "SciPy": "scipy_lapack",
    "scikit-learn": "sklearn_pca",
}
LATENCY_CONTESTANTS = {
    "latentcore": ("engine", "float32"),
    "latentcore float16": ("engine", "float16"),
    "latentcore int8": ("engine", "int8"),
    "latentcore int8_dynamic": ("engine", "int8_dynamic"),
    "latentcore C": ("engine_c", "float32"),
    "latentcore C float16": ("engine_c", "float16"),
    "latentcore C int8": ("engine_c", "int8"),
    "latentcore C int8_dynamic": ("engine_c", "int8_dynamic"),
    "torch": ("torch_eager", "float32"),
    "torch.compile": ("torch_compiled", "float32"),
    "JAX": ("jax_jit", "float32"),
    "ONNX Runtime": ("onnx_runtime", "float32"),
    "ONNX Runtime int8": ("onnx_runtime", "int8_dynamic"),
    "ONNX Runtime C": ("onnx_runtime_c", "float32"),
    "NumPy": ("numpy_blas", "float32"),
}
"""The file and the weights of each. Those named C run without Python."""
GPU_CONTESTANTS = {
    "latentcore": "gpu_engine",
    "torch": "gpu_torch",
    "torch.compile": "gpu_graphs",
    "JAX": "gpu_jax",
    "CuPy": "gpu_cupy",
}
ENGINE = "latentcore"
PACKAGES = {"latentcore": "latentcore", "torch": "torch", "torch.compile": "torch", "JAX": "jax", "NumPy": "numpy"}
PACKAGES |= {"ONNX Runtime": "onnxruntime", "SciPy": "scipy", "scikit-learn": "scikit-learn", "CuPy": "cupy-cuda13x"}
PACKAGES |= {name: PACKAGES[base] for name in LATENCY_CONTESTANTS for base in ("latentcore", "ONNX Runtime") if base in name}
LEARNING_RATE = 1e-3

Calls = Sequence[Callable[[], Any]]


class Peer:
    """A library limited to `threads` threads, with weights of a kind. A task that it does not have raises
    NotImplementedError."""

    compiles = False
    """whether it takes seconds to prepare a shape"""
    suffix = ""
    """what the name of its saved file must end in"""
    python = True
    """whether its calls are made from Python"""

    def __init__(self, threads: int, weights: str = "float32") -> None:
        self.threads, self.weights = threads, weights

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        """A call that runs encode, decode or reconstruct on x (rows, width) and returns its finished output."""
        return self.inferences(network, parameters, task, [x])[0]

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        """Such a call for each of inputs, all of one shape, over the same weights; or a Program that has them."""
        raise NotImplementedError(task)

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        """Writes encode, decode or reconstruct to a file, in the form that loads fastest. x: a first input."""
        raise NotImplementedError(task)

    def start(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> list[str]:
        """Saves to a file, and gives the command that starts from it in a fresh process: it prints the seconds that the
        library took until it had the output of x (float64), and the output (float32)."""
        path += self.suffix
        self.save(network, parameters, task, x, path)
        Path(f"{path}.inputs").write_bytes(x.tobytes())
        return [sys.executable, "-m", "bench.start", type(self).__module__.rpartition(".")[2], path]

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        """run(steps): that many whole Adam steps at `batch` rows, finished on return; returns the last loss."""
        raise NotImplementedError("training")

    def epoch(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[], float]:
        """A call that trains once over data (rows, features), shuffled, and returns the mean loss."""
        raise NotImplementedError("epoch")

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        """A call that returns the finished (u, s, vt) of task "svd", thin, or (w, v) of "eigh", of a (batch, m, n)."""
        raise NotImplementedError(task)

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        """A call that fits k principal components by the covariance of x (rows, features), and returns the finished
        variances (k,), or all of them, and components (k, features)."""
        raise NotImplementedError("pca fit")

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        """A call that gives the codes of the first row of x, (1, k), under the components of all of x."""
        raise NotImplementedError("pca transform")

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        """A call that fits all components of each group of x (groups, rows, features), and returns the finished variances
        (groups, features) and components (groups, features, features)."""
        raise NotImplementedError("batched pca fit")

    def host(self, output: Any) -> np.ndarray:
        """A finished output as an array of NumPy's."""
        return np.array(output.numpy() if hasattr(output, "numpy") else output)

    def losses(self, network: Network, parameters: Parameters, x: np.ndarray, steps: int) -> list[float]:
        """The losses of `steps` training steps on the fixed batch x, each before its update."""
        run = self.training(network, parameters, x, len(x))
        return [float(run(1)) for _ in range(steps)]


def fitted(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean (features,) and the first k components (features, k) of x, in its dtype."""
    return x.mean(0), np.linalg.eigh(np.cov(x.T.astype(np.float64)))[1][:, : -k - 1 : -1].astype(x.dtype)


def load(name: str, threads: int, device: str | None = None) -> Peer:
    """Import and start the contestant of that name: of those on the CPU, or of those on a GPU (device "cuda"; "cpu" to
    rehearse these)."""
    if device is None and name in LATENCY_CONTESTANTS:
        module, weights = LATENCY_CONTESTANTS[name]
        return importlib.import_module(f".{module}", __package__).Contestant(threads, weights)
    if device is None:
        return importlib.import_module(f".{CONTESTANTS[name]}", __package__).Contestant(threads)
    return importlib.import_module(f".{GPU_CONTESTANTS[name]}", __package__).Contestant(threads, device)
