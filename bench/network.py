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
    """A VAE features-hidden-(latent + latent), latent-hidden-features with a Bernoulli likelihood. depth: hidden layers of
    each half. samples: of the importance-weighted bound that it is trained by; 1: the ELBO."""

    features: int
    hidden: int
    latent: int
    depth: int = 1
    activation: str = "relu"
    samples: int = 1

    def parameters(self) -> Parameters:
        """float32 weights, uniform in +-1/sqrt(in) as PyTorch starts them, under latentcore's names."""
        rng = np.random.default_rng(2024)
        inner = [(self.hidden, self.hidden)] * (self.depth - 1)
        encoder = [(self.hidden, self.features), *inner]
        decoder = [(self.hidden, self.latent), *inner, (self.features, self.hidden)]
        shapes = {f"encoder.{i}": shape for i, shape in enumerate(encoder)}
        shapes |= {"latent": (2 * self.latent, self.hidden), **{f"decoder.{i}": shape for i, shape in enumerate(decoder)}}
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

        encoder = [layer(f"encoder.{i}", self.activation) for i in range(self.depth)]
        encoder.append(layer("latent", "identity", self.latent))
        decoder = [layer(f"decoder.{i}", self.activation) for i in range(self.depth)]
        decoder.append(layer(f"decoder.{self.depth}", "sigmoid"))
        return {"encode": encoder, "decode": decoder, "reconstruct": encoder + decoder}[task]

    def width(self, task: str) -> int:
        """Columns of a task's output."""
        return self.latent if task == "encode" else self.features


VAE = Network(784, 400, 20)
TINY = Network(8, 32, 32)
DEEP = Network(256, 384, 128, depth=2)
IMPORTANCE = Network(784, 200, 50, depth=2, activation="tanh", samples=50)  # Burda et al. 2015, one stochastic layer


def activations(layers: list[Layer], x: np.ndarray) -> list[np.ndarray]:
    """The input of every layer and the output of the last, float64, each (rows, width)."""
    functions = {
        "identity": lambda v: v,
        "relu": lambda v: np.maximum(v, 0),
        "tanh": np.tanh,
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }
    values = [x.astype(np.float64)]
    for layer in layers:
        product = values[-1] @ layer.weight.astype(np.float64).T + layer.bias
        values.append(functions[layer.activation](product))
    return values


def expected_loss(network: Network, parameters: Parameters, x: np.ndarray, draws: int = 32) -> float:
    """Mean over `draws` noises, or sets of importance samples, of the negative bound of x (rows, features), float64, nats
    per row."""
    layers = network.layers(parameters, "reconstruct")
    before, after = layers[: network.depth], layers[network.depth + 1 :]
    latent = Layer(parameters["latent.weight"], parameters["latent.bias"], "identity")
    mean, log_variance = np.split(activations([*before, latent], x)[-1], 2, axis=1)
    logits_of = [*after[:-1], Layer(after[-1].weight, after[-1].bias, "identity")]
    rng, k, total = np.random.default_rng(0), network.samples, 0.0
    for _ in range(draws):
        noise = rng.standard_normal((len(x), k, network.latent))
        z = mean[:, None] + np.exp(log_variance / 2)[:, None] * noise
        logits = activations(logits_of, z.reshape(len(x) * k, -1))[-1].reshape(len(x), k, -1)
        loss = (np.logaddexp(0, logits) - x[:, None] * logits).sum(2)
        if k == 1:
            total += (loss[:, 0] + 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)).mean()
        else:
            ratio = 0.5 * ((noise**2 - z**2).sum(2) + log_variance.sum(1)[:, None])
            total += np.log(k) - np.logaddexp.reduce(ratio - loss, axis=1).mean()
    return float(total / draws)


@dataclass(frozen=True)
class Work:
    """What one operation cannot do without: floating-point operations, bytes moved, bytes of weights to hold."""

    flops: float
    bytes: float
    held: float

    def floor(self, ceilings: dict, *, cold: bool = False) -> float:
        """Seconds at the FMA peak or at the bandwidth of the level that holds the weights, whichever is longer; main memory
        holds them if caches are `cold`."""
        levels = ceilings["levels"][-1:] if cold else ceilings["levels"]
        level = next(level for level in levels if level["capacity"] >= self.held)
        return max(self.flops / (ceilings["fma_gflops"] * 1e9), self.bytes / (level["gbps"] * 1e9))


def inference_work(layers: list[Layer], x: np.ndarray, *, skip_zeros: bool, item: int = 4) -> Work:
    """The work of one pass over x; with `skip_zeros` a zero input of a layer costs no arithmetic and no weights. item: bytes
    of a weight."""
    values = activations(layers, x)
    flops, held = 0.0, 0.0
    for layer, value in zip(layers, values, strict=False):
        rows, columns = layer.weight.shape
        used = np.count_nonzero(value) if skip_zeros else value.size
        touched = np.count_nonzero(value.any(0)) if skip_zeros else columns
        flops += 2.0 * used * rows
        held += rows * (item * touched + 4.0)
    return Work(flops, held + 4.0 * (values[0].size + values[-1].size), held)


def training_work(network: Network, parameters: Parameters, x: np.ndarray, *, skip_zeros: bool) -> Work:
    """One training step on x: three products a layer, two in the first, the decoder's for each importance sample; weights
    and both moments read and written."""
    layers = network.layers(parameters, "reconstruct")
    layers[network.depth] = Layer(parameters["latent.weight"], parameters["latent.bias"], "identity")
    values = activations(layers[: network.depth], x)
    codes = activations(layers[network.depth : network.depth + 1], values[-1])[-1][:, : network.latent]
    values += activations(layers[network.depth + 1 : -1], codes)
    times = [1] * (network.depth + 1) + [network.samples] * (network.depth + 1)
    products = [
        2.0 * (np.count_nonzero(value) if skip_zeros else value.size) * layer.weight.shape[0] * each
        for layer, value, each in zip(layers, values, times, strict=True)
    ]
    size = 4.0 * sum(value.size for value in parameters.values())
    return Work(3 * sum(products) - products[0], 6 * size + 4.0 * x.size, 3 * size)
