"""GPU kernels compiled ahead of time, for machines that have CuPy and no compiler."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .backends.binaries import Variant, ship, variant_of
from .models import PCA, VAE, Autoencoder, Model
from .models.neural import NeuralModel
from .models.parameters import ParametricModel
from .ops import OPS, Dim
from .ops.advance_cuda import advance
from .ops.launches import Emitter, launches_of
from .plan import Plan

_PRECISIONS = "ieee", "tf32"
_ROWS = 128  # that plans are bound to; kernels do not depend on it
_DATA_ROWS = 60000, 59999  # of a training set: of a multiple of 16, kernels know that it is one
_FEATURES = 784, 100


def write_kernels(folder: Path, archs: Sequence[int], models: Iterable[Model] = ()) -> int:
    """Compiles the kernels of these models, or of common ones, for architectures (80 for sm_80) into a folder that the
    environment variable LATENTCORE_KERNELS may name. Returns how many files that are. Raises ImportError without the
    compilers, OSError."""
    plans = [plan for model in models for plan in plans_of(model)]
    return ship(folder, variants_of(plans or common_plans()), archs)


def variants_of(plans: Iterable[Plan]) -> list[Variant]:
    """What these plans launch, and what ends a step of training, each once."""
    emit = Emitter(_ROWS)
    advance(emit)
    launches = (launch for plan in plans for each in _PRECISIONS for launch in launches_of(plan, _ROWS, each))
    return list(dict.fromkeys(map(variant_of, chain(emit.launches, launches))))


def plans_of(model: Model) -> Iterator[Plan]:
    """The plans that a fitted model runs."""
    for name in [name[7:] for name in dir(model) if name.startswith("_build_")]:
        if name == "train" and isinstance(model, NeuralModel):
            options = {**model._check_training(), "max_norm": model._max_norm()}
            for rows in _DATA_ROWS:
                yield model._plan(name, data_rows=rows, **options)
        elif name == "interpolate":
            yield from (model._plan(name, method=method) for method in ("slerp", "lerp"))
        else:
            yield model._plan(name)
    if isinstance(model, ParametricModel):
        for layer in model._layers():
            yield single_plan("uniform_forward", model._dtype, l=layer.inputs + 1)


def common_models() -> Iterator[Model]:
    """Models of each kind, of sizes that 16 divides and of others."""
    rows = np.random.default_rng(0).random((40, 16))
    for n_components in (3, 16):
        for dtype in ("float32", "float64"):
            yield PCA(n_components, svd_solver="full").fit(rows.astype(dtype))
    for kind in (VAE, Autoencoder):
        for likelihood, variance, norm in (("bernoulli", 1.0, None), ("gaussian", 1.0, 1.0), ("gaussian", "learned", None)):
            for features, latent_dim, hidden in zip(_FEATURES, (20, 16), ((400,), (256, 128))):
                given: dict[str, Any] = {"likelihood": likelihood, "variance": variance, "max_grad_norm": norm}
                yield kind(latent_dim, hidden, **given, random_state=0).initialize(features)


def common_plans() -> Iterator[Plan]:
    """The plans of models of each kind, of decompositions, and of what a PCA is fitted by."""
    for model in common_models():
        yield from plans_of(model)
    for dtype in ("float32", "float64"):
        for n in (2, 3, 4, 8, 16, 24, 32):
            yield single_plan("svd_forward", dtype, m=n, n=n, k=n)
            yield single_plan("svd_forward", dtype, m=4 * n, n=n, k=n)
            yield single_plan("eigh_forward", dtype, n=n)
        for features in _FEATURES:
            for absent in ((), ("weight",)):
                yield single_plan("moments_forward", dtype, absent, f=features)
        for d in (8, 10):
            yield single_plan("covariance_forward", dtype, n=1000, f=d)
            yield single_plan("affine_forward", dtype, ("after",), o=3, i=d, g=100)
            yield single_plan("affine_forward", dtype, ("before",), o=d, i=3, g=100)


def single_plan(op: str, dtype: str, absent: Collection[str] = (), **sizes: Dim) -> Plan:
    """A plan of one call without weights: the sizes of its letters, "rows" where they are left out."""
    plan, spec = Plan(op, dtype), OPS[op]
    present = [a for a in spec.arguments if a.name not in absent]
    for a in present:
        declare = plan.output if a in spec.arguments[: spec.outputs] else plan.input
        declare(a.name, *(int(d) if d.isdecimal() else sizes.get(d, "rows") for d in a.dims), dtype=a.dtype)
    plan.call(op, **{a.name: a.name for a in present})
    return plan
