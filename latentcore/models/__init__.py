"""Models: a parameter layout, and the plans that it builds from layers."""

from __future__ import annotations

from .autoencoder import Autoencoder
from .base import LatentModel, Model
from .batched_pca import BatchedPCA
from .incremental_pca import IncrementalPCA
from .mlp import MLP
from .pca import PCA
from .vae import VAE

MODELS: dict[str, type[Model]] = {kind.__name__: kind for kind in (VAE, Autoencoder, MLP, PCA, IncrementalPCA)}

__all__ = ["MLP", "MODELS", "PCA", "VAE", "Autoencoder", "BatchedPCA", "IncrementalPCA", "LatentModel", "Model"]
