"""PyTorch through torch.compile: frozen weights and autotuned products in inference, a compiled loss in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor, nn

from . import Calls, Network, Parameters, Peer
from . import torch_eager as eager

torch._dynamo.config.cache_size_limit = 64
INFERENCE = {"freezing": True, "max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}


class Contestant(eager.Contestant):
    """The linear half is eager PyTorch's: there is nothing in it to compile."""

    decomposition, pca_fit = Peer.decomposition, Peer.pca_fit
    pca_transform, pca_groups = Peer.pca_transform, Peer.pca_groups

    compiles, suffix = True, ".pt2"

    def __init__(self, threads: int, weights: str = "float32") -> None:
        super().__init__(threads, weights)
        self._models: dict[tuple[Network, str, int], Callable[[Tensor], Tensor]] = {}

    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        key = network, task, len(inputs[0])
        if key not in self._models:
            model = eager.Dense(network.layers(parameters, task)).eval()
            self._models[key] = torch.compile(model, fullgraph=True, dynamic=False)
        calls = eager.inferring(self._models[key], [torch.from_numpy(x) for x in inputs])
        with torch._inductor.config.patch(INFERENCE):  # as an option of torch.compile it would not freeze
            calls[0]()
        return calls

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        program = torch.export.export(eager.Dense(network.layers(parameters, task)).eval(), (torch.from_numpy(x),))
        torch._inductor.aoti_compile_and_package(program, package_path=path)

    def _compiled(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return torch.compile(model, fullgraph=True, dynamic=False)
