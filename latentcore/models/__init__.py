"""Models: a parameter layout, and the plans that it builds from layers."""

from __future__ import annotations

from .autoencoder import Autoencoder
from .base import Model
from .batched_pca import BatchedPCA
from .incremental_pca import IncrementalPCA
from .pca import PCA
from .vae import VAE

MODELS: dict[str, type[Model]] = {"VAE": VAE, "Autoencoder": Autoencoder, "PCA": PCA, "IncrementalPCA": IncrementalPCA}

__all__ = ["MODELS", "PCA", "VAE", "Autoencoder", "BatchedPCA", "IncrementalPCA", "Model"]
