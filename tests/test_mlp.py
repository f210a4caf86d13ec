"""MLP: layers with one function, and all that holds for every model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc
from latentcore import io
from latentcore.ops.linear import _FUNCTIONS, ACTIVATIONS

X = np.random.default_rng(0).standard_normal((40, 7))
WIDTHS, KINDS = (7, 33, 5, 18), ("gelu", "leaky_relu", "sigmoid")


def mlp(**parameters: Any) -> lc.MLP:
    return lc.MLP(WIDTHS, KINDS, random_state=0, **parameters).initialize()


def expected(model: lc.MLP, x: np.ndarray, activations: tuple[str, ...] = KINDS) -> np.ndarray:
    """The formula, in float64."""
    weights = model.parameters()
    for i, activation in enumerate(activations):
        weight, bias = (weights[f"{i}.{name}"].astype("f8") for name in ("weight", "bias"))
        x = _FUNCTIONS[activation][0](x @ weight.T + bias)
    return x


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward(dtype: str, backend: str) -> None:
    model = mlp(dtype=dtype, backend=backend)
    got = model.forward(X)
    assert (got.dtype, got.shape) == (dtype, (40, 18))
    near = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(got, expected(model, X.astype(dtype).astype("f8")), rtol=0, atol=near)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_layer(activation: str) -> None:
    model = lc.MLP((7, 3), [activation], dtype="float64").initialize()
    np.testing.assert_allclose(model.forward(X), expected(model, X, (activation,)), rtol=0, atol=1e-14)


def test_its_weights_are_those_of_the_seed() -> None:
    model = mlp()
    weights = model.parameters()
    assert {name: a.shape for name, a in weights.items()} == {
        "0.weight": (33, 7), "0.bias": (33,), "1.weight": (5, 33), "1.bias": (5,), "2.weight": (18, 5), "2.bias": (18,),
    }  # fmt: skip
    for name, array in weights.items():
        assert array.tobytes() == mlp().parameters()[name].tobytes()
        inputs = WIDTHS[int(name[0])]
        assert 0.5 / np.sqrt(inputs) < np.abs(array).max() <= 1 / np.sqrt(inputs)


def test_parameters_go_in_and_out() -> None:
    model, other = mlp(), mlp(dtype="float64")
    other.set_parameters(model.parameters())
    np.testing.assert_allclose(other.forward(X), model.forward(X), atol=1e-6)
    with pytest.raises(ValueError, match=r"parameters: 1\.bias: expected shape \(5,\), got \(4,\)"):
        model.set_parameters({"0.bias": np.ones(33), "1.bias": np.ones(4)})
    assert model.parameters()["0.bias"].max() < 1


def test_compiled() -> None:
    model = mlp()
    want = model.forward(X)
    for batch in (1, 40):
        call = lc.compile(model, "forward", batch=batch)
        assert call(X[:batch].astype("f4")).tobytes() == want[:batch].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_pickles_and_copies(dtype: str, tmp_path: Path) -> None:
    model = mlp(dtype=dtype)
    lc.save(model, tmp_path / "m")
    for other in (lc.load(tmp_path / "m"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert isinstance(other, lc.MLP)
        assert (other.seed_, other.n_features_in_) == (0, 7)
        assert (tuple(other.widths), tuple(other.activations), other.dtype) == (WIDTHS, KINDS, dtype)
        assert other.forward(X).tobytes() == model.forward(X).tobytes()


def test_a_file_is_of_the_network_that_has_the_weights(tmp_path: Path) -> None:
    model = mlp().set_params(widths=(3, 4), activations=("relu",), dtype="float64")
    lc.save(model, tmp_path / "m")
    loaded = lc.load(tmp_path / "m")
    assert loaded.forward(X).tobytes() == mlp().forward(X).tobytes()
    assert loaded.initialize().n_features_in_ == 3


WRONG_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "widths": ({"widths": [7, 33, 5, 17]}, r"2\.weight: expected float32 \(17, 5\), got float32 \(18, 5\)"),
    "more layers than tensors": ({"widths": [1] * 8, "activations": ["relu"] * 7}, "8 widths, but 6 tensors"),
    "another layer": ({"widths": [7, 33, 5, 18, 2], "activations": [*KINDS, "relu"]}, r"'3\.weight' is missing"),
    "no layer": ({"widths": [7], "activations": []}, r"widths: expected .*, got \[7\]"),
    "huge": ({"widths": [2**31 - 1] * 4}, r"0\.weight: expected float32 \(2147483647, 2147483647\), got"),
    "activation": ({"activations": ["relu"] * 2 + ["swish"]}, "activations: expected one of .*, got 'swish'"),
    "other activations": ({"activations": ["relu"] * 3}, "plans: forward: it differs"),
    "dtype": ({"dtype": "float64"}, r"0\.weight: expected float64 \(33, 7\), got float32"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_files_that_do_not_fit(wrong: str, tmp_path: Path) -> None:
    changes, says = WRONG_FILES[wrong]
    lc.save(mlp(), tmp_path / "m")
    header, tensors = io.read_model(tmp_path / "m")
    header["network"] |= changes
    del header["format"]
    io.write_model(tmp_path / "m", header, tensors)
    with pytest.raises(ValueError, match=says):
        lc.load(tmp_path / "m")


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "widths text": ({"widths": "7"}, TypeError, "widths: expected a sequence of layer widths, got '7'"),
    "one width": ({"widths": 7}, ValueError, "widths: expected the features and the width .*, got 7"),
    "width zero": ({"widths": (7, 0)}, ValueError, "widths: expected an integer from 1 .*, got 0"),
    "width beyond memory": (
        {"widths": (2**31 - 1,) * 2, "activations": ["relu"]}, MemoryError, "widths: a layer of 2147483647 times"
    ),
    "activations few": ({"activations": ("relu",)}, ValueError, r"activations: expected .* 3 layers, got \('relu',\)"),
    "activations text": ({"activations": "relu"}, ValueError, "activations: expected .* 3 layers, got 'relu'"),
    "activation": ({"activations": ("relu", "relu", "elu")}, ValueError, "activations: expected one of .*, got 'elu'"),
    "activation number": ({"activations": (1, 2, 3)}, ValueError, "activations: expected one of .*, got 1"),
    "dtype": ({"dtype": "float16"}, ValueError, "dtype: expected one of 'float32', 'float64', got 'float16'"),
    "backend": ({"backend": "gpu"}, ValueError, "backend: expected one of auto, .*, got 'gpu'"),
    "seed": ({"random_state": -1}, ValueError, "random_state: expected an integer .*, got -1"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_parameters(wrong: str) -> None:
    parameters, kind, says = WRONG[wrong]
    model = lc.MLP(**{"widths": WIDTHS, "activations": KINDS, **parameters})
    with pytest.raises(kind, match=says):
        model.initialize()
    with pytest.raises(ValueError, match=r"this MLP has no weights yet: call initialize or lc.from_torch first"):
        model.forward(X)


def test_what_it_has_not() -> None:
    model = mlp()
    with pytest.raises(ValueError, match=r"X: expected 7 features, got 6 \(shape \(40, 6\)\); .*MLP is expecting 7"):
        model.forward(X[:, 1:])
    with pytest.raises(ValueError, match="function: expected one of 'forward', got 'decode'"):
        lc.compile(model, "decode")
    with pytest.raises(TypeError, match=r"model: expected a VAE, .*PCA, got MLP\("):
        lc.interpolate(model, X[0], X[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model: expected a VAE.*PCA, got MLP\("):
        lc.sample(model, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model: expected a VAE or Autoencoder, got MLP\("):
        lc.train(model, X)
