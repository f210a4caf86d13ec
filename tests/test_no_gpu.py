"""The GPU backend where it cannot work: one sentence says what is missing, nothing is changed, and nobody else computes."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

import latentcore as lc
from latentcore import backends

X = models.draw(10, 4)
NO_CUPY = r"backend 'cuda': CuPy cannot be imported \(.+\); install latentcore\[cuda\]"
NO_DEVICE = "backend 'cuda': no CUDA device: a GPU and NVIDIA's driver are needed"


class OnGpu:
    """An array of CuPy's as it shows itself to others."""

    shape, ndim = (10, 4), 2

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("this memory lies on a device")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


def fitted() -> lc.VAE:
    return lc.VAE(2, (3,), epochs=1, random_state=0).fit(X)


@pytest.fixture(params=["no CuPy", "no device"])
def says(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[type[Exception], str]:
    """Without CuPy, or with one that sees no device: the error."""
    for name in ("cuda", "cuda:tf32"):
        monkeypatch.delitem(backends._BACKENDS, name, raising=False)
    if request.param == "no CuPy":
        monkeypatch.setitem(sys.modules, "cupy", None)
        return ImportError, NO_CUPY
    cupy: Any = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(is_available=lambda: False)
    api: Any = types.ModuleType("cupy_backends.cuda.api")
    api.driver = None
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.api"):
        monkeypatch.setitem(sys.modules, name, api)
    return RuntimeError, NO_DEVICE


CALLS: dict[str, Callable[[lc.VAE, Path], Any]] = {
    "svd": lambda m, p: lc.svd(X, backend="cuda"),
    "eigh": lambda m, p: lc.eigh(X[:4], backend="cuda:tf32"),
    "VAE": lambda m, p: lc.VAE(2, (3,), backend="cuda").fit(X),
    "train": lambda m, p: lc.train(lc.Autoencoder(2, (3,), backend="cuda"), X),
    "initialize": lambda m, p: lc.VAE(2, (3,), backend="cuda").initialize(4),
    "PCA": lambda m, p: lc.PCA(2, backend="cuda").fit(X),
    "IncrementalPCA": lambda m, p: lc.IncrementalPCA(2, backend="cuda").partial_fit(X),
    "BatchedPCA": lambda m, p: lc.BatchedPCA(2, backend="cuda").fit(X[None]),
    "to": lambda m, p: m.to("cuda"),
    "to of BatchedPCA": lambda m, p: lc.BatchedPCA(2).to("cuda"),
    "load": lambda m, p: (lc.save(m, p / "model"), lc.load(p / "model", backend="cuda")),
    "array": lambda m, p: lc.svd(OnGpu()),
    "fit array": lambda m, p: lc.PCA(2).fit(OnGpu()),
    "train array": lambda m, p: lc.train(lc.VAE(2, (3,)), OnGpu()),
    "groups": lambda m, p: lc.BatchedPCA(2).fit([X, OnGpu()]),
    "chunks": lambda m, p: lc.IncrementalPCA(2).fit(iter([OnGpu()])),
}


@pytest.mark.parametrize("name", CALLS)
def test_says_what_is_missing(name: str, says: tuple[type[Exception], str], tmp_path: Path) -> None:
    model = fitted()
    before = models.state(model)
    with pytest.raises(says[0], match=f"^{says[1]}$"):
        CALLS[name](model, tmp_path)
    models.assert_same(models.state(model), before)
    assert model.backend == "auto"


def test_config_says_what_is_missing(says: tuple[type[Exception], str], capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in lc.show_config().splitlines() if line.startswith("GPU:")]
    assert re.fullmatch(says[1].partition(": ")[2], line.split(None, 1)[1])


def test_a_model_on_the_cpu_takes_no_array_of_a_gpu() -> None:
    with pytest.raises(TypeError, match="X: expected an array of real numbers, got a OnGpu"):
        fitted().encode(OnGpu())
    with pytest.raises(TypeError, match="A: expected an array of real numbers, got a OnGpu"):
        lc.svd(OnGpu(), backend="cpu")


def test_moving_between_backends_of_the_cpu() -> None:
    model = fitted()
    before, codes = models.state(model), model.transform(X)
    assert model.to("reference").backend == "reference"
    np.testing.assert_allclose(model.transform(X), codes, rtol=1e-4, atol=1e-5)
    models.assert_same(models.state(model.to("cpu")), before)
    with pytest.raises(ValueError, match=r"backend: expected one of auto, .*, got 'tpu'"):
        model.to("tpu")


def test_importing_looks_for_no_compiler_and_no_gpu() -> None:
    program = """
import sys
attempts = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        attempts.append(name.split(".")[0])
sys.meta_path.insert(0, Watch())
import latentcore as lc
lc.VAE(1, (2,), epochs=1).fit([[0.0], [1.0]])
lc.svd([[1.0]])
print(*sorted({"cupy", "triton", "numba", "cupyx", "cupy_backends"} & set(attempts)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
