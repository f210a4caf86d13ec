"""The ops: what each computes (a NumPy reference that is the specification), its shapes and its cost."""

from . import (
    adam,
    affine,
    bernoulli,
    covariance,
    eigh,
    gather,
    gaussian,
    importance,
    interpolate,
    kl,
    latent,
    linear,
    moments,
    norm,
    objective,
    probabilistic_pca,
    random,
    reparameterize,
    shift,
    shuffle,
    svd,
)
from .signature import Argument, Clock, Dim, Op, Size, size_of

OPS: dict[str, Op] = {
    op.name: op
    for module in (
        linear, latent, reparameterize, kl, bernoulli, gaussian, importance, objective, adam, norm, gather, shuffle,
        random, interpolate, shift, probabilistic_pca, affine, svd, eigh, moments, covariance,
    )
    for op in module.OPS
}  # fmt: skip

__all__ = ["OPS", "Argument", "Clock", "Dim", "Op", "Size", "size_of"]
