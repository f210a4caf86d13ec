"""The gradients of whole models: the reference against finite differences, the cpu backend against the reference
within a model of rounding, both against PyTorch's autograd given the same noise."""

from __future__ import annotations

import math
from itertools import pairwise, product
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from numerics import LOOSE, Rounding, assert_close, assert_gradient, error_ratio

import latentcore as lc

# Smooth activations alone: a kink would be tolerated, not tested.
LIKELIHOODS: dict[str, dict[str, Any]] = {
    "bernoulli": {"likelihood": "bernoulli"},
    "gaussian": {"likelihood": "gaussian", "variance": 0.7},
    "learned": {"likelihood": "gaussian", "variance": "learned"},
}
VAES: dict[str, dict[str, Any]] = {
    "bernoulli-1": {**LIKELIHOODS["bernoulli"], "activation": "tanh"},
    "bernoulli-1-free_bits": {**LIKELIHOODS["bernoulli"], "activation": "gelu", "free_bits": 0.2},
    "bernoulli-5": {**LIKELIHOODS["bernoulli"], "activation": "silu", "importance_samples": 5},
    "gaussian-1": {**LIKELIHOODS["gaussian"], "activation": "softplus"},
    "gaussian-1-free_bits": {**LIKELIHOODS["gaussian"], "activation": "sigmoid", "free_bits": 0.2},
    "gaussian-5": {**LIKELIHOODS["gaussian"], "activation": "tanh", "importance_samples": 5},
    "learned-1": {**LIKELIHOODS["learned"], "activation": "gelu"},
    "learned-1-free_bits": {**LIKELIHOODS["learned"], "activation": "silu", "free_bits": 0.2},
    "learned-5": {**LIKELIHOODS["learned"], "activation": "softplus", "importance_samples": 5},
}
CASES = {name: (lc.VAE, {"beta": 1.7, **options}) for name, options in VAES.items()} | {
    f"autoencoder-{name}": (lc.Autoencoder, {**options, "activation": activation})
    for (name, options), activation in zip(LIKELIHOODS.items(), ("gelu", "softplus", "silu"))
}
SIZES = {"small": (6, (5, 4), 3, 7), "odd": (70, (65, 33), 9, 40), "large": (300, (129, 64), 17, 100)}


def example(case: str, size: str = "small", **options: Any) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
    """A model with weights that move every unit, rows of data, and for a VAE the noise; all exact in float32."""
    kind, given = CASES[case]
    features, hidden, latent_dim, rows = SIZES[size]
    model = kind(latent_dim, hidden, random_state=1, **given, **options).initialize(features)
    draw = np.random.default_rng(0)
    parameters = {
        name: (draw.normal(size=a.shape) / math.sqrt(a.shape[-1] if a.ndim > 1 else 1)).astype(np.float32)
        for name, a in model.parameters().items()
    }
    X = draw.random((rows, features), np.float32)
    samples = given.get("importance_samples", 1)
    noise = draw.normal(size=(rows * samples, latent_dim)).astype(np.float32)
    return model.set_parameters(parameters), X, {"noise": noise} if kind is lc.VAE else {}


@pytest.mark.parametrize("case", CASES)
def test_reference_agrees_with_finite_differences(case: str) -> None:
    """Every parameter of a model with two hidden layers."""
    model, X, given = example(case, backend="reference", dtype="float64")
    parameters = model.parameters()
    _, gradients = model.loss_and_gradients(X, **given)
    assert gradients.keys() == parameters.keys()
    assert_gradient(lambda p: model.set_parameters(p).loss_and_gradients(X, **given)[0], parameters, gradients)


@pytest.mark.parametrize("case", [name for name in VAES if "free_bits" in name])
def test_free_bits_charge_some_dimensions_only(case: str) -> None:
    """The cases above have dimensions on both sides of the threshold and none close to it."""
    model, X, given = example(case, backend="reference", dtype="float64")
    mu, logvar = model.encode(X)
    kl = (0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)).mean(0)
    below, above = kl < 0.19, kl > 0.21
    assert below.any()
    assert above.any()
    assert (below | above).all()
    charged = model.loss_and_gradients(X, **given)[0]
    plain = model.set_params(free_bits=0.0).loss_and_gradients(X, **given)[0]
    assert charged - plain == pytest.approx(model.beta * np.maximum(0.2 - kl, 0).sum(), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cpu_agrees_with_the_reference(dtype: str) -> None:
    """A gradient goes through the products of both directions and a sum over rows: its rounding error grows with the
    root of the lengths of all of them together. A loss is a mean of terms that are rounded one by one."""
    ratios: dict[str, dict[str, float]] = {"loss": {}, "gradient": {}}
    for case, (size, sizes) in product(CASES, SIZES.items()):
        reference, X, given = example(case, size, backend="reference", dtype="float64")
        model, _, _ = example(case, size, backend="cpu", dtype=dtype)
        features, hidden, latent_dim, _ = sizes
        length = 2 * (features + 2 * sum(hidden) + latent_dim) + len(given.get("noise", X))
        want_loss, want = reference.loss_and_gradients(X, **given)
        loss, gradients = model.loss_and_gradients(X, **given)
        assert gradients.keys() == want.keys()
        assert all(g.dtype == dtype for g in gradients.values())
        rounding = Rounding(abs(want_loss)) + Rounding(abs(want_loss), features, "float64")
        ratios["loss"][f"{case} {size}"] = error_ratio(np.array([loss]), np.array([want_loss]), rounding, dtype)
        for name, gradient in gradients.items():
            rounding = Rounding(float(np.abs(want[name]).max()), length)
            ratios["gradient"][f"{case} {size} {name}"] = error_ratio(gradient, want[name], rounding, dtype)
    for what, found in ratios.items():
        case, worst = max(found.items(), key=itemgetter(1))
        print(f"{what}: {worst:.3f} of the tolerance at {case}")
        assert LOOSE <= worst <= 1, case


@pytest.mark.parametrize("samples", [1, 5])
def test_drawn_noise_is_the_same_on_both_backends(samples: int) -> None:
    """Normals agree to a few units in the last place, and so do losses; another seed draws another noise."""
    found = []
    for backend in ("reference", "cpu"):
        model, X, _ = example("bernoulli-1", "odd", backend=backend, dtype="float64", importance_samples=samples)
        found.append(model.loss_and_gradients(X, random_state=3)[0])
        assert model.loss_and_gradients(X, random_state=4)[0] != pytest.approx(found[-1], rel=1e-6)
    assert found[0] == pytest.approx(found[1], rel=1e-13)


def torch_network(model: Any) -> Any:
    """The same network as PyTorch modules; its state_dict takes the model's parameters by name."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its autograd is not compared with")

    def stack(*widths: int) -> Any:
        return torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(widths))

    hidden, last = list(model.hidden), model.latent_dim
    network = torch.nn.Module()
    network.encoder = stack(model.n_features_in_, *hidden)
    network.latent = torch.nn.Linear(hidden[-1], last * model.code_width)
    network.decoder = stack(last, *reversed(hidden), model.n_features_in_)
    if model.variance == "learned":
        network.decoder.register_parameter("log_variance", torch.nn.Parameter(torch.zeros(1)))
    network.double().load_state_dict({name: torch.tensor(a) for name, a in model.parameters().items()})
    return network


def torch_loss(model: Any, network: Any, X: np.ndarray, noise: np.ndarray | None) -> Any:
    """The model's objective, written in PyTorch's own functions."""
    torch = pytest.importorskip("torch")
    activation = getattr(torch.nn.functional, model.activation)
    x = h = torch.tensor(X.astype(np.float64))
    for layer in network.encoder:
        h = activation(layer(h))
    h = network.latent(h)
    if noise is not None:
        k, e = model.importance_samples, torch.tensor(noise.astype(np.float64))
        mu, logvar = h.chunk(2, 1)
        q = torch.distributions.Normal(mu.repeat_interleave(k, 0), (logvar / 2).exp().repeat_interleave(k, 0))
        h = z = q.loc + q.scale * e
        x = x.repeat_interleave(k, 0)
    for layer in network.decoder[:-1]:
        h = activation(layer(h))
    out = network.decoder[-1](h)
    if model.likelihood == "bernoulli":
        recon = torch.nn.functional.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
    else:
        learned = model.variance == "learned"
        scale = (network.decoder.log_variance / 2).exp() if learned else math.sqrt(model.variance)
        recon = -torch.distributions.Normal(out, scale).log_prob(x).sum(1)
    if noise is None:
        return recon.mean()
    prior = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
    if k == 1:
        kl = torch.distributions.kl_divergence(q, prior).mean(0).clamp(min=model.free_bits)
        return recon.mean() + model.beta * kl.sum()
    log_w = model.beta * (prior.log_prob(z) - q.log_prob(z)).sum(1) - recon
    return -(torch.logsumexp(log_w.view(-1, k), 1) - math.log(k)).mean()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_autograd(case: str, backend: str) -> None:
    model, X, given = example(case, "odd", backend=backend, dtype="float64")
    network = torch_network(model)
    loss = torch_loss(model, network, X, given.get("noise"))
    loss.backward()
    ours, gradients = model.loss_and_gradients(X, **given)
    assert ours == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in network.named_parameters():
        want = parameter.grad.numpy()
        assert_close(gradients.pop(name), want, Rounding(float(np.abs(want).max()), sum(X.shape)), "float64")
    assert not gradients
