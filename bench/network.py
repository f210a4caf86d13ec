"""The network that every contestant runs, its float64 truth, and the least work that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One dense layer: weight (out, in), bias (out,), activation "identity", "relu" or "sigmoid"."""

    weight: np.ndarray
    bias: np.ndarray
    activation: str


@dataclass(frozen=True)
class Network:
    """A VAE features-hidden-(latent + latent), latent-hidden-features with ReLU and a Bernoulli likelihood."""

    features: int
    hidden: int
    latent: int

    def parameters(self) -> Parameters:
        """float32 weights, uniform in +-1/sqrt(in) as PyTorch starts them, under latentcore's names."""
        rng = np.random.default_rng(2024)
        shapes = {
            "encoder.0": (self.hidden, self.features),
            "latent": (2 * self.latent, self.hidden),
            "decoder.0": (self.hidden, self.latent),
            "decoder.1": (self.features, self.hidden),
        }
        drawn = {}
        for name, (rows, columns) in shapes.items():
            bound = columns**-0.5
            drawn[f"{name}.weight"] = rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)
            drawn[f"{name}.bias"] = rng.uniform(-bound, bound, rows).astype(np.float32)
        return drawn

    def layers(self, parameters: Parameters, task: str) -> list[Layer]:
        """The layers of "encode" (mean code only), "decode" or "reconstruct" (both, through the mean code)."""

        def layer(name: str, activation: str, rows: int | None = None) -> Layer:
            return Layer(parameters[f"{name}.weight"][:rows], parameters[f"{name}.bias"][:rows], activation)

        encoder = [layer("encoder.0", "relu"), layer("latent", "identity", self.latent)]
        decoder = [layer("decoder.0", "relu"), layer("decoder.1", "sigmoid")]
        return {"encode": encoder, "decode": decoder, "reconstruct": encoder + decoder}[task]


VAE = Network(784, 400, 20)
TINY = Network(8, 32, 32)


def activations(layers: list[Layer], x: np.ndarray) -> list[np.ndarray]:
    """The input of every layer and the output of the last, float64, each (rows, width)."""
    functions = {
        "identity": lambda v: v,
        "relu": lambda v: np.maximum(v, 0),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }
    values = [x.astype(np.float64)]
    for layer in layers:
        product = values[-1] @ layer.weight.astype(np.float64).T + layer.bias
        values.append(functions[layer.activation](product))
    return values


def expected_loss(parameters: Parameters, x: np.ndarray, draws: int = 32) -> float:
    """Mean over `draws` noises of the negative ELBO of x (rows, features), float64, nats per row."""
    p = {name: value.astype(np.float64) for name, value in parameters.items()}
    rng = np.random.default_rng(0)
    hidden = np.maximum(x @ p["encoder.0.weight"].T + p["encoder.0.bias"], 0)
    mean, log_variance = np.split(hidden @ p["latent.weight"].T + p["latent.bias"], 2, axis=1)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1).mean()
    total = 0.0
    for _ in range(draws):
        z = mean + np.exp(log_variance / 2) * rng.standard_normal(mean.shape)
        hidden = np.maximum(z @ p["decoder.0.weight"].T + p["decoder.0.bias"], 0)
        logits = hidden @ p["decoder.1.weight"].T + p["decoder.1.bias"]
        total += (np.logaddexp(0, logits) - x * logits).sum(1).mean()
    return float(total / draws + kl)


@dataclass(frozen=True)
class Work:
    """What one operation cannot do without: floating-point operations, bytes moved, bytes of weights to hold."""

    flops: float
    bytes: float
    held: float

    def floor(self, ceilings: dict) -> float:
        """Seconds at the FMA peak or at the bandwidth of the level that holds the weights, whichever is longer."""
        level = next(level for level in ceilings["levels"] if level["capacity"] >= self.held)
        return max(self.flops / (ceilings["fma_gflops"] * 1e9), self.bytes / (level["gbps"] * 1e9))


def inference_work(layers: list[Layer], x: np.ndarray, *, skip_zeros: bool) -> Work:
    """The work of one pass over x; with `skip_zeros` a zero input of a layer costs no arithmetic and no weights."""
    values = activations(layers, x)
    flops, held = 0.0, 0.0
    for layer, value in zip(layers, values, strict=False):
        rows, columns = layer.weight.shape
        used = np.count_nonzero(value) if skip_zeros else value.size
        touched = np.count_nonzero(value.any(0)) if skip_zeros else columns
        flops += 2.0 * used * rows
        held += 4.0 * rows * (touched + 1)
    return Work(flops, held + 4.0 * (values[0].size + values[-1].size), held)


def training_work(network: Network, parameters: Parameters, x: np.ndarray, *, skip_zeros: bool) -> Work:
    """One training step on x: three products a layer, two in the first; weights and both moments read and written."""
    layers = network.layers(parameters, "reconstruct")
    layers[1] = Layer(parameters["latent.weight"], parameters["latent.bias"], "identity")
    hidden = activations(layers[:1], x)[-1]
    codes = activations(layers[1:2], hidden)[-1][:, : network.latent]
    values = [x, hidden, codes, activations(layers[2:3], codes)[-1]]
    products = [
        2.0 * (np.count_nonzero(value) if skip_zeros else value.size) * layer.weight.shape[0]
        for layer, value in zip(layers, values, strict=True)
    ]
    size = 4.0 * sum(value.size for value in parameters.values())
    return Work(3 * sum(products) - products[0], 6 * size + 4.0 * x.size, 3 * size)
