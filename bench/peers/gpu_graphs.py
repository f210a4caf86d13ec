"""PyTorch on a GPU through torch.compile, each network and each whole training step captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import LEARNING_RATE, Network, Parameters, Peer, gpu_torch, torch_eager

WARM = 5  # calls before a capture: compilation, and what libraries allocate at first


class Contestant(gpu_torch.Contestant):
    """The linear half is eager PyTorch's: there is nothing in it to compile."""

    decomposition, pca_fit = Peer.decomposition, Peer.pca_fit

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        model, rows = torch_eager.Dense(network.layers(parameters, task)).eval().to(self.device), self.put(x)
        compiled = torch.compile(model, fullgraph=True, dynamic=False)

        def run() -> Tensor:
            with torch.inference_mode():
                return compiled(rows)

        return _captured(run)

    def training(self, network: Network, parameters: Parameters, data: np.ndarray, batch: int) -> Callable[[int], Any]:
        model, rows = torch_eager.Bound(network, parameters).to(self.device), self.put(np.array(data[:batch]))
        loss_of = torch.compile(model, fullgraph=True, dynamic=False)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=True)
        before = {name: value.clone() for name, value in model.state_dict().items()}

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(rows)
            loss.backward()
            optimizer.step()
            return loss.detach()

        replay = _captured(step)
        model.load_state_dict(before)  # the steps before the capture are undone
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

        def run(steps: int) -> float:
            for _ in range(steps):
                loss = replay()
            return loss.item()

        return run


def _captured(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A call as one replay of a CUDA graph; its output lies at one place."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay
