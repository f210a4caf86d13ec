"""Networks out of PyTorch: the same numbers, and a word for each layer that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc

torch = pytest.importorskip("torch", reason="needs the package torch")
nn = torch.nn

X = torch.from_numpy(np.random.default_rng(0).random((40, 12), np.float32))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def output(module: Any, x: Any = X) -> np.ndarray:
    with torch.inference_mode():
        return module(x).float().numpy()  # type: ignore[no-any-return]


ACTIVATIONS = {
    "identity": nn.Identity(), "relu": nn.ReLU(inplace=True), "leaky_relu": nn.LeakyReLU(), "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(), "softplus": nn.Softplus(), "gelu": nn.GELU(), "silu": nn.SiLU(),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    module = nn.Sequential(nn.Linear(12, 33), ACTIVATIONS[name], nn.Linear(33, 5))
    model = lc.from_torch(module)
    assert isinstance(model, lc.MLP)
    assert (model.widths, model.activations, model.dtype) == ((12, 33, 5), (name, "identity"), "float32")
    np.testing.assert_allclose(model.forward(X), output(module), atol=2e-6)


def test_a_sequential_of_all_kinds(tmp_path: Path) -> None:
    inner = nn.Sequential(nn.Linear(9, 8, bias=False), nn.Dropout(0.3), nn.SiLU(), nn.Identity())
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 9), nn.AlphaDropout(), nn.Tanh(), inner, nn.Linear(8, 5), nn.Sigmoid()
    )
    model = lc.from_torch(module.eval(), backend="cpu")
    assert repr(model) == "MLP(widths=(12, 9, 8, 5), activations=('tanh', 'silu', 'sigmoid'), backend='cpu')"
    want = output(module)
    np.testing.assert_allclose(model.forward(X), want, atol=1e-6)
    np.testing.assert_allclose(lc.compile(model, "forward", batch=40)(X.numpy()), want, atol=1e-6)
    lc.save(model, tmp_path / "m")
    assert lc.load(tmp_path / "m").forward(X).tobytes() == model.forward(X).tobytes()


def test_weights_are_copied() -> None:
    module = nn.Sequential(nn.Linear(12, 3))
    model = lc.from_torch(module)
    before = model.forward(X)
    with torch.no_grad():
        module[0].weight.zero_()
    assert model.forward(X).tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtypes(dtype: str) -> None:
    layer = nn.Linear(12, 3).to(getattr(torch, dtype))
    model = lc.from_torch(layer)
    assert model.dtype == ("float64" if dtype == "float64" else "float32")
    weights = model.parameters()
    np.testing.assert_array_equal(weights["0.weight"], layer.weight.detach().double().numpy())
    np.testing.assert_array_equal(weights["0.bias"], layer.bias.detach().double().numpy())
    assert lc.from_torch(layer, dtype="float64").dtype == "float64"


def test_weights_that_are_strided() -> None:
    layer = nn.Linear(12, 3)
    layer.weight = nn.Parameter(torch.randn(12, 6).T[::2])
    np.testing.assert_array_equal(lc.from_torch(layer).parameters()["0.weight"], layer.weight.detach().numpy())


class Own(nn.Sequential):
    """A module that goes its own way."""

    def forward(self, x: Any) -> Any:
        return x


def linear(*more: Any) -> Any:
    return nn.Sequential(nn.Linear(12, 3), *more)


WRONG_MODULES: dict[str, tuple[Any, type[Exception], str]] = {
    "convolution": (linear(nn.Conv2d(1, 1, 1)), TypeError, r"module\[1\]: expected .*Linear, ReLU.*, got Conv2d\(1, 1"),
    "normalization": (linear(nn.Sequential(nn.BatchNorm1d(3))), TypeError, r"module\[1\]\[0\]: .*, got BatchNorm1d\("),
    "an activation": (linear(nn.ELU()), TypeError, r"module\[1\]: expected .*, got ELU\("),
    "slope": (linear(nn.LeakyReLU(0.2)), TypeError, r"module\[1\]: .*LeakyReLU of negative_slope=0\.01, got .*=0\.2"),
    "tanh of GELU": (linear(nn.GELU("tanh")), TypeError, r"module\[1\]: .*GELU of approximate='none', got .*'tanh'"),
    "beta": (linear(nn.Softplus(2)), TypeError, r"module\[1\]: expected a Softplus of beta=1\.0, got beta=2\.?0?"),
    "threshold": (linear(nn.Softplus(threshold=3)), TypeError, r"module\[1\]: .* threshold=20\.0, got threshold=3\.?0?"),
    "training": (linear(nn.Dropout()), TypeError, r"module\[1\]: expected a Dropout of training=False, got training=True"),
    "flatten": (linear(nn.Flatten(0)), TypeError, r"module\[1\]: expected a Flatten of start_dim=1, got start_dim=0"),
    "twice": (linear(nn.ReLU(), nn.Dropout().eval(), nn.Tanh()), TypeError, r"module\[3\]: .* before the activation Tanh"),
    "no layer before": (nn.Sequential(nn.ReLU(), nn.Linear(12, 3)), TypeError, r"module\[0\]: expected a Linear before"),
    "no layer": (nn.Sequential(nn.Flatten()), TypeError, "module: expected a Linear layer or more, got none"),
    "widths": (linear(nn.Linear(4, 2)), ValueError, r"1\.weight: expected shape \(2, 3\), got \(2, 4\)"),
    "one of its own": (Own(nn.Linear(12, 3)), TypeError, r"module: expected .*, got Own\("),
    "lazy": (nn.LazyLinear(3), TypeError, r"module: expected .*, got LazyLinear\("),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(12, 3)), TypeError, "got ParametrizedLinear"),
    "spectral norm": (nn.utils.spectral_norm(nn.Linear(12, 3)), TypeError, "module: .*, got one with 'weight_orig'"),
    "without data": (nn.Linear(12, 3, device="meta"), TypeError, r"module\.weight: .*, got a Tensor \(Cannot copy out"),
    "a number": (3, TypeError, "module: expected a state_dict, or .*, got 3"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_MODULES)
def test_modules_that_there_are_not(wrong: str) -> None:
    module, kind, says = WRONG_MODULES[wrong]
    with pytest.raises(kind, match=says):
        lc.from_torch(module)


def test_weights_that_are_not_finite() -> None:
    layer = nn.Linear(12, 3)
    with torch.no_grad():
        layer.bias[1] = torch.inf
    with pytest.raises(ValueError, match=r"0\.bias: expected finite numbers in float32"):
        lc.from_torch(layer)


# ---- a state_dict ----------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Encoder and decoder as PyTorch's users write them: with activations between the layers."""

    def __init__(self, codes: int, log_variance: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 9), nn.SiLU(), nn.Linear(9, 7), nn.SiLU())
        self.latent = nn.Linear(7, codes)
        self.decoder = nn.Sequential(nn.Linear(4, 7), nn.SiLU(), nn.Linear(7, 9), nn.SiLU(), nn.Linear(9, 12))
        if log_variance:
            self.decoder.log_variance = nn.Parameter(torch.tensor([0.3]))


def from_pair(pair: Any, **parameters: Any) -> Any:
    return lc.from_torch(pair.state_dict(), **{"activation": "silu", "likelihood": "gaussian", **parameters})


def test_a_vae() -> None:
    pair = Pair(8)
    model = from_pair(pair, likelihood="bernoulli", beta=2.0)
    assert repr(model) == "VAE(latent_dim=4, hidden=(9, 7), activation='silu', beta=2.0)"
    mu, logvar = model.encode(X)
    want = output(nn.Sequential(pair.encoder, pair.latent))
    np.testing.assert_allclose(np.concatenate([mu, logvar], 1), want, atol=1e-6)
    want = output(nn.Sequential(pair.decoder, nn.Sigmoid()), torch.from_numpy(mu))
    np.testing.assert_allclose(model.decode(mu), want, atol=1e-6)


def test_an_autoencoder() -> None:
    pair = Pair(4)
    model = from_pair(pair)
    assert repr(model) == "Autoencoder(latent_dim=4, hidden=(9, 7), activation='silu')"
    np.testing.assert_allclose(
        model.reconstruct(X), output(nn.Sequential(pair.encoder, pair.latent, pair.decoder)), atol=1e-6
    )


def test_a_learned_variance() -> None:
    model = from_pair(Pair(8, log_variance=True).double())
    assert (model.variance, model.dtype) == ("learned", "float64")
    assert model.parameters()["decoder.log_variance"] == np.float64(np.float32(0.3))


def test_without_hidden_layers_and_biases() -> None:
    state = {"latent.weight": torch.randn(8, 12), "decoder.0.weight": torch.randn(12, 4).bfloat16()}
    model = lc.from_torch(state, activation="relu", likelihood="gaussian")
    assert (model.latent_dim, model.hidden) == (4, ())
    np.testing.assert_allclose(model.transform(X), (X @ state["latent.weight"][:4].T).numpy(), atol=1e-5)
    assert not model.parameters()["latent.bias"].any()


def test_there_and_back() -> None:
    model = lc.VAE(4, (9, 7), random_state=0).initialize(12)
    arrays = model.parameters()
    for state in (arrays, {name: torch.from_numpy(a) for name, a in arrays.items()}):
        again = lc.from_torch(state, activation="relu", likelihood="bernoulli")
        assert again.reconstruct(X).tobytes() == model.reconstruct(X).tobytes()


def changed(**changes: Any) -> dict[str, Any]:
    """A state_dict with some entries set, "_" for a point, and without those that are None."""
    state = {**Pair(8).state_dict(), **{name.replace("_", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


WRONG_STATES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, ValueError, "state_dict: 'latent.weight' is missing"),
    "no decoder": (changed(decoder_0_weight=None), ValueError, r"decoder"),
    "half a layer": (changed(decoder_2_weight=None), ValueError, r"state_dict: 'decoder\.1\.weight' is missing"),
    "a name": (changed(norm_weight=torch.ones(3)), TypeError, "state_dict: expected names like .*, got 'norm.weight'"),
    "a number": ({3: torch.ones(3)}, TypeError, "state_dict: expected names like .*, got 3"),
    "normalization": (changed(encoder_1_weight=torch.ones(9)), ValueError, r"encoder\.1\.weight: .*, got shape \(9,\)"),
    "zero-size": (changed(latent_weight=torch.ones(0, 7)), ValueError, r"latent\.weight: .*, got shape \(0, 7\)"),
    "latent rows": (changed(latent_weight=torch.ones(5, 7)), ValueError, "latent.weight: expected 4 or 8 rows .*, got 5"),
    "a width": (changed(decoder_2_weight=torch.ones(9, 8)), ValueError, r"decoder\.1\.weight: expected shape \(9, 7\)"),
    "text": (changed(latent_bias="x"), TypeError, "state_dict: latent.bias: expected .*, got str"),
    "not finite": (changed(latent_bias=torch.full((8,), torch.nan)), ValueError, "latent.bias: expected finite numbers"),
    "sparse": (changed(latent_bias=torch.ones(8).to_sparse()), TypeError, "state_dict: latent.bias: expected"),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_states_that_do_not_fit(wrong: str) -> None:
    state, kind, says = WRONG_STATES[wrong]
    with pytest.raises(kind, match=says):
        lc.from_torch(state, activation="relu", likelihood="bernoulli")


def test_what_a_state_does_not_say() -> None:
    for given, lacks in (({"activation": "relu"}, "likelihood"), ({"likelihood": "gaussian"}, "activation")):
        with pytest.raises(TypeError, match=f"{lacks}: expected it beside a state_dict, which does not say it; got none"):
            lc.from_torch(Pair(8).state_dict(), **given)
    with pytest.raises(ValueError, match=re.escape("activation: expected one of 'identity'")):
        from_pair(Pair(8), activation="swish")
