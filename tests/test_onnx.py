"""ONNX files: what ONNX Runtime makes of them is what the model makes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc
from latentcore.onnx import write_plan
from latentcore.ops.linear import ACTIVATIONS
from latentcore.plan import Plan

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")

FEATURES, LATENT = 21, 5
DTYPES = ["float32", "float64"]


def data(dtype: str = "float32", rows: int = 30) -> np.ndarray:
    return np.random.default_rng(0).random((rows, FEATURES)).astype(dtype)


def vae(**parameters: Any) -> lc.VAE:
    return lc.VAE(LATENT, (33, 18), random_state=0, **parameters).initialize(FEATURES)


def methods(model: Any) -> dict[str, Any]:
    """The functions that a model exports, as methods."""
    if isinstance(model, lc.PCA):
        return {name: getattr(model, name) for name in ("transform", "inverse_transform", "score_samples")}
    found = {"encode": model.transform, "decode": model.decode, "reconstruct": model.reconstruct}
    found["score_samples"] = model.score_samples
    return found | ({"posterior": model.encode} if isinstance(model, lc.VAE) else {})


def run(path: Path, given: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: given})  # type: ignore[no-any-return]


def assert_reproduces(model: Any, path: Path, dtype: str) -> None:
    """Every function, to 1e-5 of the largest number, for one row and for many."""
    x = data(dtype)
    codes = model.transform(x)
    for function, method in methods(model).items():
        given = codes if function in ("decode", "inverse_transform") else x
        lc.export_onnx(model, path, function)
        for rows in (len(x), 1):
            want = method(given[:rows])
            want = want if isinstance(want, tuple) else (want,)
            for a, b in zip(run(path, given[:rows]), want, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()), err_msg=function)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, dtype: str, tmp_path: Path) -> None:
    model = vae(activation=activation, dtype=dtype)
    wide = {name: 3 * a for name, a in model.parameters().items()}  # beyond where they are nearly linear
    assert_reproduces(model.set_parameters(wide), tmp_path / "m", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("likelihood", "variance"), [("bernoulli", 1.0), ("gaussian", 0.3), ("gaussian", "learned")], ids=str
)
def test_likelihoods(likelihood: str, variance: Any, dtype: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"likelihood": likelihood, "variance": variance, "dtype": dtype}
    for kind in (lc.VAE, lc.Autoencoder):
        model = kind(LATENT, (33,), **given, random_state=0).initialize(FEATURES)
        if variance == "learned":
            model.set_parameters({"decoder.log_variance": [0.7]})
        assert_reproduces(model, tmp_path / "m", dtype)


def test_clamped_log_variance(tmp_path: Path) -> None:
    model = vae()
    beyond = np.array([0.0] * LATENT + [-90, 90, 0, 40, -40])
    model.set_parameters({"latent.bias": beyond})
    lc.export_onnx(model, tmp_path / "m", "posterior")
    _, logvar = run(tmp_path / "m", data())
    assert (logvar.min(), logvar.max()) == (-30, 20)
    np.testing.assert_allclose(logvar, model.encode(data())[1], atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [5, FEATURES])
def test_pca(n_components: int, whiten: bool, dtype: str, tmp_path: Path) -> None:
    for kind in (lc.PCA, lc.IncrementalPCA):
        assert_reproduces(kind(n_components, whiten=whiten).fit(data(dtype)), tmp_path / "m", dtype)


def test_pca_far_from_zero(tmp_path: Path) -> None:
    x = data() + np.float32(1e5)
    model = lc.PCA(3).fit(x)
    lc.export_onnx(model, tmp_path / "m")
    np.testing.assert_allclose(run(tmp_path / "m", x)[0], model.transform(x), atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mlp(dtype: str, tmp_path: Path) -> None:
    model = lc.MLP((FEATURES, 33, 18, LATENT), ("gelu", "identity", "softplus"), dtype=dtype, random_state=0).initialize()
    lc.export_onnx(model, tmp_path / "m")
    np.testing.assert_allclose(run(tmp_path / "m", data(dtype))[0], model.forward(data(dtype)), rtol=0, atol=1e-5)


def test_what_a_file_says(tmp_path: Path) -> None:
    lc.export_onnx(vae(), tmp_path / "m", "posterior")
    model = onnx.load(tmp_path / "m")
    assert (model.producer_name, model.producer_version) == ("latentcore", lc.__version__)
    assert {p.key: p.value for p in model.metadata_props} == {"model": "VAE", "function": "posterior"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"x": ["rows", FEATURES], "mu": ["rows", LATENT], "logvar": ["rows", LATENT]}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, array in vae().parameters().items():
        if not name.startswith("decoder"):
            np.testing.assert_array_equal(weights[name], array)


def test_the_whole_model_unless_told_otherwise(tmp_path: Path) -> None:
    for model, function in ((vae(), "reconstruct"), (lc.PCA(3).fit(data()), "transform")):
        lc.export_onnx(model, tmp_path / "m")
        lc.export_onnx(model, tmp_path / "named", function)
        assert (tmp_path / "m").read_bytes() == (tmp_path / "named").read_bytes()


def test_a_model_of_the_reference_backend(tmp_path: Path) -> None:
    model = vae()
    lc.export_onnx(model, tmp_path / "m")
    lc.export_onnx(model.to("reference"), tmp_path / "reference")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "reference").read_bytes()


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=re.escape("needs the package onnx: pip install 'latentcore[onnx]'")):
        lc.export_onnx(vae(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentcore.onnx._MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"model: its weights take [0-9]+ bytes, an ONNX file holds at most 1000"):
        lc.export_onnx(vae(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("samples", [1, 2])
def test_an_op_without_a_converter(samples: int, tmp_path: Path) -> None:
    plan = Plan("sample") if samples == 1 else vae().plan("evaluate", samples=samples)
    if samples == 1:
        plan.output("z", "rows", LATENT)
        plan.call("normal_forward", z="z", stream=3)
    states = {b.name: np.zeros((b.shape[0], b.shape[1] + 1), "f4") for b in plan.of_role("state")}
    op = "normal_forward" if samples == 1 else "latent_forward"
    with pytest.raises(TypeError, match=rf"{plan.name}: the op {op}\(.*\) cannot be exported to ONNX"):
        write_plan(plan, states, tmp_path / "m", {})
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"old")
    with pytest.raises(ValueError, match=r"function: expected one of 'encode', .*, got 'sample'"):
        lc.export_onnx(vae(), tmp_path / "m", "sample")
    with pytest.raises(TypeError, match="model: expected a VAE, "):
        lc.export_onnx(data(), tmp_path / "m")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        lc.export_onnx(vae(), tmp_path / "missing" / "m")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
