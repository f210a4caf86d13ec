"""The rows of the latency section: single calls as an embedder makes them, each with the next of a few inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .check import inference_fault
from .network import DEEP, TINY, VAE, Network, Parameters, Work, activations, inference_work

if TYPE_CHECKING:
    from .cases import Inputs
    from .peers import Calls, Peer

INPUTS = {1: 16, 16: 4, 128: 1}
"""How many inputs take turns, by batch: fewer where they would not fit in a cache beside the weights."""

NAMES = {VAE: "784-400-20-400-784", TINY: "32-32-8", DEEP: "256-384-384-128"}
ITEM = {"float32": 4, "float16": 2, "int8": 1, "int8_dynamic": 1}
"""Bytes of a weight."""
INTEGERS = 4
"""Products of bytes, which int8_dynamic is made of, that a vector holds for every one of floats."""

STARTS = ("fresh process", "fresh process, NumPy imported")


@dataclass(frozen=True)
class Latency:
    """One row: a task on rows of a kind, `batch` at a time, in a state of the machine."""

    task: str
    data: str
    """ "mnist" (81 % zeros), "dense" (uniform, no zeros) or "codes" (standard normal) """
    batch: int
    network: Network = VAE
    state: str = "warm"
    """ "warm", "flushed" (caches, before each call), "busy" (another Python thread of the process), or of STARTS """
    both: bool = True
    """whether it is measured for every number of threads, or for the first alone"""

    section = "latency"
    steps = 1

    def __str__(self) -> str:
        return f"{self.task} {NAMES[self.network]} {self.data} {self.batch} {self.state}"

    @property
    def starts(self) -> bool:
        """Whether a call is a fresh process's first."""
        return self.state in STARTS

    @property
    def few(self) -> bool:
        """Whether it is one of the rows for those who take long to compile."""
        return self.batch == 1 and (self.task == "decode" or self.network == DEEP)

    @property
    def share(self) -> float:
        """Of the time that a row of single, warm calls gets."""
        return 1.0 if self.state == "warm" and self.batch == 1 else 0.75 if self.batch == 1 else 0.2

    def load(self, inputs: Inputs) -> tuple[Parameters, list[np.ndarray]]:
        """The weights that every contestant starts from, and the inputs, each (batch, width)."""
        width = self.network.latent if self.task == "decode" else self.network.features
        name = f"codes{width}" if self.data == "codes" else self.data
        count = 1 if self.starts else INPUTS[self.batch]
        rows = np.load(inputs.folder / f"{name}.npy", mmap_mode="r")[: count * self.batch, :width]
        return inputs.parameters(self.network), list(np.array(rows).reshape(count, self.batch, width))

    def work(self, inputs: Inputs, *, skip_zeros: bool, weights: str = "float32") -> Work:
        """The least work of a call, the mean over the inputs."""
        integers = weights == "int8_dynamic"  # which leaves no zeros out
        parameters, given = self.load(inputs)
        layers = self.network.layers(parameters, self.task)
        work = [inference_work(layers, x, skip_zeros=skip_zeros and not integers, item=ITEM[weights]) for x in given]
        flops, moved, held = np.mean([(one.flops, one.bytes, one.held) for one in work], axis=0)
        return Work(float(flops) / (INTEGERS if integers else 1), float(moved), float(held))

    def prepare(self, peer: Peer, material: tuple[Parameters, Sequence[np.ndarray]]) -> tuple[Calls, Any]:
        """The calls to time, and the kind of weights with the outputs (count, batch, width)."""
        if (self.state == "busy" and not peer.python) or (peer.compiles and not (self.few and peer.threads == 1)):
            raise NotImplementedError(str(self))
        parameters, given = material
        calls = peer.inferences(self.network, parameters, self.task, given)
        outputs = np.stack([peer.host(call()) for call in calls]) if peer.python else calls.outputs
        return calls, (peer.weights, outputs)

    def start(self, peer: Peer, material: tuple[Parameters, Sequence[np.ndarray]], path: str) -> list[str]:
        """The command of a fresh process that starts from what is saved to a file."""
        if peer.weights != "float32":
            raise NotImplementedError(str(self))
        command = peer.start(self.network, material[0], self.task, material[1][0], path)
        if self.state == STARTS[0]:
            return command
        if not peer.python:
            raise NotImplementedError(str(self))
        return [*command, "numpy"]

    def verdicts(self, inputs: Inputs, evidence: dict[str, Any]) -> dict[str, str]:
        """Why a contestant is refused, by name; whoever passes is not in it."""
        parameters, given = self.load(inputs)
        truth = activations(self.network.layers(parameters, self.task), np.concatenate(given))[-1]
        reasons = {}
        for name, (weights, outputs) in evidence.items():
            reasons[name] = inference_fault(outputs.reshape(-1, outputs.shape[-1]), truth, self.network.features, weights)
        return {name: reason for name, reason in reasons.items() if reason}


def latency_cases() -> list[Latency]:
    """Every row, in the order of the tables."""
    works = [("decode", "codes", VAE)]
    works += [(task, data, VAE) for task in ("encode", "reconstruct") for data in ("mnist", "dense")]
    works += [("decode", "codes", TINY), ("encode", "dense", DEEP)]
    rows = [Latency(*work[:2], batch, work[2], both=work[2] == VAE or batch == 1) for work in works for batch in INPUTS]
    for state in ("flushed", "busy"):
        rows += [Latency(task, data, 1, net, state, both=net == VAE) for task, data, net in (works[0], *works[-2:])]
    return [*rows, *(Latency("decode", "codes", 1, VAE, state, both=False) for state in STARTS)]
