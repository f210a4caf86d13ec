"""An engine for latent-variable models: hand-written kernels, no autodiff framework."""

from __future__ import annotations

from ._core import __version__
from .api import compile, export_onnx, interpolate, load, sample, save, show_config, train
from .backends import NonFiniteError, get_num_threads, set_num_threads
from .linalg import eigh, svd
from .models import MLP, PCA, VAE, Autoencoder, BatchedPCA, IncrementalPCA
from .pytorch import from_torch

__all__ = [
    "MLP",
    "PCA",
    "VAE",
    "Autoencoder",
    "BatchedPCA",
    "IncrementalPCA",
    "NonFiniteError",
    "__version__",
    "compile",
    "eigh",
    "export_onnx",
    "from_torch",
    "get_num_threads",
    "interpolate",
    "load",
    "sample",
    "save",
    "set_num_threads",
    "show_config",
    "svd",
    "train",
]
