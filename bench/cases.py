"""The rows of the neural half, and the arrays that rows run on."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .check import CHECK_STEPS, inference_fault, training_fault
from .network import TINY, VAE, Network, Parameters, Work, activations, expected_loss, inference_work, training_work

if TYPE_CHECKING:
    from .peers import Peer

BATCHES = (1, 16, 128, 1024)


@dataclass(frozen=True)
class Case:
    """One row: a task on rows of a kind, `batch` at a time."""

    task: str
    """ "train step", "epoch", "encode", "decode" or "reconstruct" """
    data: str
    """ "mnist" (81 % zeros), "dense" (uniform, no zeros) or "codes" (standard normal) """
    batch: int
    network: Network = VAE

    section = "neural"

    def __str__(self) -> str:
        tiny = " tiny" if self.network == TINY else ""
        return f"{self.task}{tiny} {self.data} {self.batch}"

    @property
    def trains(self) -> bool:
        """Whether the row is a training one."""
        return self.task in ("train step", "epoch")

    @property
    def steps(self) -> int:
        """Operations in a timed call, so that a call of a training step lasts some milliseconds."""
        return {16: 8, 128: 2}.get(self.batch, 1) if self.task == "train step" else 1

    def work(self, inputs: Inputs, *, skip_zeros: bool) -> Work:
        """The least work of one operation."""
        parameters, x = inputs.parameters(self.network), inputs.rows(self)
        if self.trains:
            work = training_work(self.network, parameters, np.asarray(x[: self.batch]), skip_zeros=skip_zeros)
            count = len(x) / self.batch if self.task == "epoch" else 1
            return Work(count * work.flops, count * work.bytes, work.held)
        return inference_work(self.network.layers(parameters, self.task), x, skip_zeros=skip_zeros)

    def load(self, inputs: Inputs) -> tuple[Parameters, np.ndarray]:
        """The weights that every contestant starts from, and the rows."""
        return inputs.parameters(self.network), inputs.rows(self)

    def prepare(self, peer: Peer, material: tuple[Parameters, np.ndarray]) -> tuple[Callable[[], Any], Any]:
        """The call to time, and what it is judged by: the output of an inference, the losses of a training."""
        parameters, rows = material
        if self.task == "epoch":
            epoch = peer.epoch(self.network, parameters, rows, self.batch)
            return epoch, [epoch()]
        if self.task == "train step":
            losses = peer.losses(self.network, parameters, np.array(rows[: self.batch]), CHECK_STEPS)
            run = peer.training(self.network, parameters, rows, self.batch)
            return lambda: run(self.steps), losses
        call = peer.inference(self.network, parameters, self.task, rows)
        return call, peer.host(call())

    def verdicts(self, inputs: Inputs, evidence: dict[str, Any]) -> dict[str, str]:
        """Why a contestant is refused, by name; whoever passes is not in it. An epoch is judged by its mean loss alone,
        which the median of all contestants must confirm."""
        parameters = inputs.parameters(self.network)
        if self.trains:
            first = self._expected(parameters, inputs) if self.task == "train step" else None
            consensus = float(np.median([losses[-1] for losses in evidence.values()]))
            reasons = {name: training_fault(losses, first, consensus) for name, losses in evidence.items()}
        else:
            truth = activations(self.network.layers(parameters, self.task), inputs.rows(self))[-1]
            features = self.network.features
            reasons = {name: inference_fault(output, truth, features) for name, output in evidence.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def _expected(self, parameters: Parameters, inputs: Inputs) -> float:
        draws = 32 if self.network.samples == 1 else 2  # a bound of many samples varies less
        return expected_loss(self.network, parameters, inputs.rows(self)[: self.batch], draws)


def cases() -> list[Case]:
    """Every interleaved row, in the order of the tables."""
    rows = [Case("train step", data, batch) for data in ("mnist", "dense") for batch in BATCHES[1:]]
    rows.append(Case("epoch", "mnist", 128))
    rows += [Case("decode", "codes", batch) for batch in BATCHES]
    for task in ("encode", "reconstruct"):
        rows += [Case(task, data, batch) for data in ("mnist", "dense") for batch in BATCHES]
    return [*rows, Case("decode", "codes", 1, TINY)]


class Inputs:
    """The shared arrays, written once to a folder and mapped by every process that runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def write(cls, folder: Path) -> Inputs:
        """Fill `folder` with the data sets: float32 (rows, features) in [0, 1], and codes (rows, latent)."""
        rng = np.random.default_rng(7)
        np.save(folder / "mnist.npy", _mnist(rng))
        np.save(folder / "dense.npy", rng.uniform(0.001, 0.999, (4096, VAE.features)).astype(np.float32))
        for network in (VAE, TINY):
            codes = rng.standard_normal((max(BATCHES), network.latent)).astype(np.float32)
            np.save(folder / f"codes{network.latent}.npy", codes)
        return cls(folder)

    def parameters(self, network: Network) -> Parameters:
        """The weights that every contestant starts from."""
        return network.parameters()

    def rows(self, case: Case) -> np.ndarray:
        """The whole data set of a training row, the batch itself of any other; read-only."""
        name = f"codes{case.network.latent}" if case.data == "codes" else case.data
        data = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return data if case.trains else np.array(data[: case.batch])


def mnist_path() -> Path | None:
    """The training images under $LATENTCORE_DATA/mnist, or None."""
    path = Path(os.environ.get("LATENTCORE_DATA", "data")) / "mnist" / "train-images-idx3-ubyte.gz"
    return path if path.exists() else None


def _mnist(rng: np.random.Generator) -> np.ndarray:
    path = mnist_path()
    if path is None:
        return (rng.random((60000, 784), np.float32) * (rng.random((60000, 784), np.float32) < 0.19)).astype(np.float32)
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(-1, 784).astype(np.float32) / np.float32(255)
