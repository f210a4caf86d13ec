"""Principal components on the GPU backend, and what all of it asks of CuPy."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels import ON_GPU
from place import ROWS, X, near

import latentcore as lc
from latentcore import backends, linalg
from latentcore.backends.cuda import CudaBackend

pytestmark = pytest.mark.usefixtures("place", "few_rows_at_a_time")


WIDE = np.random.default_rng(5).standard_normal((5, 8)) @ np.diag(2.0 ** -np.arange(8)) + 3
FITS: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
    "full": (X, {"svd_solver": "full"}, {}),
    "full wide": (WIDE, {"svd_solver": "full"}, {}),
    "covariance": (X, {"svd_solver": "covariance_eigh"}, {}),
    "covariance wide": (WIDE, {"svd_solver": "covariance_eigh"}, {}),
    "randomized": (X, {"svd_solver": "randomized", "n_oversamples": 4}, {}),
    "weights": (X, {"svd_solver": "covariance_eigh"}, {"sample_weight": np.arange(ROWS) % 3}),
    "weights full": (X, {"svd_solver": "full"}, {"sample_weight": np.arange(ROWS) % 3}),
}


@pytest.mark.parametrize("name", FITS)
def test_components_are_those_of_the_cpu(name, place):
    data, parameters, arguments = FITS[name]
    want = lc.PCA(2, random_state=0, **parameters).fit(data, **arguments)
    for given in (data, place.put(data)):
        pca = lc.PCA(2, random_state=0, backend="cuda", **parameters).fit(given, **arguments)
        for attribute in ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
            assert type(getattr(pca, attribute)) is np.ndarray
            near(getattr(pca, attribute), getattr(want, attribute))
        near(pca.noise_variance_, want.noise_variance_)


def test_pieces_on_the_device(place):
    want = lc.IncrementalPCA(2).fit(X)
    for pieces in ([X[:5], X[5:]], [place.put(X[:5]), place.put(X[5:])]):
        pca = lc.IncrementalPCA(2, backend="auto" if type(pieces[0]) is place.kind else "cuda")
        for piece in pieces:
            pca.partial_fit(piece)
        assert pca._moments.backend.name == "cuda"
        near(pca.components_, want.components_)
        assert lc.IncrementalPCA(2, backend=pca.backend).fit(iter(pieces)).n_samples_seen_ == ROWS


@pytest.mark.parametrize("solver_name", ["covariance_eigh", "full"])
def test_groups_on_the_device(solver_name, place):
    groups = np.random.default_rng(2).standard_normal((2, 4, 3)) * 2.0 ** -np.arange(3)
    want = lc.BatchedPCA(2, svd_solver=solver_name).fit(groups)
    ragged = [place.put(each) for each in groups]
    for given in (groups, place.put(groups), ragged):
        pca = lc.BatchedPCA(2, svd_solver=solver_name, backend="cuda").fit(given)
        for attribute in ("mean_", "components_", "explained_variance_"):
            near(getattr(pca, attribute), getattr(want, attribute))
        codes = pca.transform(given)
        assert type(codes[0]) is (np.ndarray if given is groups else place.kind)
        near(np.stack([place.read(each) for each in codes]), want.transform(groups))


if not ON_GPU:

    def test_cupy_has_all_that_is_asked_of_it(place, monkeypatch):
        import cupy

        monkeypatch.setattr(CudaBackend, "serves", lambda *_: False)
        linalg._solver.cache_clear()
        place.device.used.clear()
        for vectors in (True, False):
            lc.svd(X, compute_uv=vectors, backend="cuda")
        for data, parameters, arguments in FITS.values():
            lc.PCA(2, random_state=0, backend="cuda", **parameters).fit(data, **arguments)
        linalg._solver.cache_clear()
        assert {"asarray", "sort", "tril", "linalg.eigh", "linalg.qr", "linalg.svd"} <= place.device.used
        for name in place.device.used:
            assert callable(functools.reduce(getattr, name.split("."), cupy))

    def test_cupy_has_all_that_it_is_driven_by():
        """Every name of CuPy's in the sources of the device: what stands in for CuPy in other tests has what it is given."""
        import cupy
        from cupy_backends.cuda.api import driver

        runtime = cupy.cuda.runtime
        roots = {"cupy": cupy, "self.cupy": cupy, "device.cupy": cupy, "self.device.cupy": cupy, "runtime": runtime}
        roots |= {"self.driver": driver, "self.device.driver": driver}
        asked = set()
        for name in ("device", "cusolver"):
            tree = ast.parse((Path(backends.__file__).parent / f"{name}.py").read_text())
            chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            asked |= {(root, chain[len(root) + 1 :]) for chain in chains for root in roots if chain.startswith(f"{root}.")}
        plain = {(root, chain) for root, chain in asked if "(" not in chain}
        assert {("self.device.cupy", "cuda.Stream"), ("self.driver", "funcSetAttribute")} <= plain
        for root, chain in plain:
            functools.reduce(getattr, chain.split("."), roots[root])
