"""What the contestants share that run in a process without Python."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np

from .. import native
from . import Calls, Network, Parameters, Peer


class InC(Peer):
    python = False

    def command(self, network: Network, parameters: Parameters, task: str, inputs: np.ndarray, path: str) -> list[str]:
        """Saves the task to a file, and gives what runs it on inputs (count, batch, features)."""
        raise NotImplementedError(task)

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        with tempfile.TemporaryDirectory() as folder:
            command = self.command(network, parameters, task, np.stack(inputs), f"{folder}/model")
            return native.Program(command, (len(inputs), len(inputs[0]), network.width(task)))

    def start(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> list[str]:
        return self.command(network, parameters, task, x[None], path)
