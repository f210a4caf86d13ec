"""latentcore on a GPU: the calls that a user makes with arrays there, and whole training steps on a bound plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import latentcore as lc

from . import Network, Parameters, engine
from .on_gpu import OnGpu


class Contestant(OnGpu, engine.Contestant):
    def __init__(self, threads: int, device: str) -> None:
        super().__init__(threads)
        self.backend, self.there = device, lc.backends.get_backend(device)

    def put(self, x: np.ndarray) -> Any:
        return self.there.keep(x)

    def host(self, output: Any) -> np.ndarray:
        return self.there.home(output)

    def wait(self) -> None:
        if self.there.device is not None:
            self.there.xp.cuda.get_current_stream().synchronize()

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        function, rows = getattr(self.model(network, parameters), task), self.put(x)
        return lambda: function(rows, validate=False)
