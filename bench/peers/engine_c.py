"""latentcore's C library on a saved model."""

from __future__ import annotations

import numpy as np

from .. import native
from . import Network, Parameters, engine
from .in_c import InC


class Contestant(InC):
    def command(self, network: Network, parameters: Parameters, task: str, inputs: np.ndarray, path: str) -> list[str]:
        engine.Contestant(self.threads).save(network, parameters, task, inputs[0], path)
        return native.command("latentcore", path, task, self.weights, self.threads, inputs, network.width(task))
