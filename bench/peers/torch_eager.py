"""PyTorch, eager: `inference_mode`, and autograd with the fused Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import LEARNING_RATE, Calls, Layer, Network, Parameters, Peer, fitted


class Contestant(Peer):
    def __init__(self, threads: int, weights: str = "float32") -> None:
        super().__init__(threads, weights)
        torch.set_flush_denormal(True)  # before the thread pool starts, which inherits it
        torch.set_num_threads(threads)
        self.device = torch.device("cpu")

    def put(self, x: np.ndarray) -> Tensor:
        """A tensor where the contestant computes."""
        return torch.from_numpy(x).to(self.device)

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        model = Dense(network.layers(parameters, task)).eval().to(self.device)
        return inferring(model, [self.put(x) for x in inputs])

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        torch.save(Dense(network.layers(parameters, task)).parts.state_dict(), path)

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        step, rows = self._step(network, parameters), self.put(np.array(data[:batch]))

        def run(steps: int) -> float:
            for _ in range(steps):
                loss = step(rows)
            return loss.item()

        return run

    def epoch(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[], float]:
        step, rows = self._step(network, parameters), torch.from_numpy(np.array(data))

        def call() -> float:
            total = torch.zeros(())
            for index in torch.randperm(len(rows)).split(batch):
                total += step(rows.index_select(0, index)) * len(index)
            return total.item() / len(rows)

        return call

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        matrices = self.put(a)
        if task == "eigh":
            return lambda: torch.linalg.eigh(matrices)
        return lambda: torch.linalg.svd(matrices, full_matrices=False)

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        rows = self.put(x)

        def call() -> tuple[Tensor, Tensor]:
            centred = rows - rows.mean(0)
            w, v = torch.linalg.eigh(centred.T @ centred / (len(rows) - 1))
            return w.flip(0)[:k], v.T.flip(0)[:k]

        return call

    def pca_transform(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        row, (mean, components) = torch.from_numpy(x[:1]), map(torch.from_numpy, fitted(x, k))

        def call() -> Tensor:
            with torch.inference_mode():
                return (row - mean) @ components

        return call

    def pca_groups(self, x: np.ndarray) -> Callable[[], Any]:
        rows = torch.from_numpy(x)

        def call() -> tuple[Tensor, Tensor]:
            centred = rows - rows.mean(1, keepdim=True)
            w, v = torch.linalg.eigh(centred.mT @ centred / (rows.shape[1] - 1))
            return w.flip(1), v.mT.flip(1)

        return call

    def _step(self, network: Network, parameters: Parameters) -> Callable[[Tensor], Tensor]:
        model = Bound(network, parameters).to(self.device)
        loss_of = self._compiled(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)

        def step(rows: Tensor) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(rows)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def _compiled(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return model


def inferring(model: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]) -> Calls:
    """A call of the model for each of inputs, which PyTorch keeps no graph of."""

    def run(rows: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(rows)

    return [lambda rows=rows: run(rows) for rows in inputs]


class Dense(nn.Module):
    """The layers one after another."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        functions = {"identity": nn.Identity(), "relu": nn.ReLU(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}
        parts: list[nn.Module] = []
        for layer in layers:
            linear = nn.Linear(*reversed(layer.weight.shape))
            linear.weight = nn.Parameter(torch.from_numpy(layer.weight.copy()), requires_grad=False)
            linear.bias = nn.Parameter(torch.from_numpy(layer.bias.copy()), requires_grad=False)
            parts += [linear, functions[layer.activation]]
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


class Bound(nn.Module):
    """The negative bound of a batch, in nats per row: of the ELBO, or of so many importance samples."""

    def __init__(self, network: Network, parameters: Parameters) -> None:
        super().__init__()
        self.samples, self.depth = network.samples, network.depth
        self.activation = {"relu": F.relu, "tanh": torch.tanh}[network.activation]
        for name, value in parameters.items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(torch.from_numpy(value.copy())))

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self._linear("latent", self._hidden("encoder", x)).chunk(2, 1)
        if self.samples == 1:
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            logits = self._linear(f"decoder_{self.depth}", self._hidden("decoder", z))
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = 0.5 * torch.sum(mean * mean + log_variance.exp() - 1 - log_variance)
            return (reconstruction + kl) / x.shape[0]
        noise = torch.randn(len(x), self.samples, mean.shape[1], device=x.device)
        z = mean[:, None] + noise * torch.exp(0.5 * log_variance)[:, None]
        logits = self._linear(f"decoder_{self.depth}", self._hidden("decoder", z))
        target = x[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(2)
        ratio = 0.5 * ((noise * noise - z * z).sum(2) + log_variance.sum(1, keepdim=True))
        return math.log(self.samples) - torch.logsumexp(ratio - loss, 1).mean()

    def _hidden(self, half: str, x: Tensor) -> Tensor:
        for i in range(self.depth):
            x = self.activation(self._linear(f"{half}_{i}", x))
        return x

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
