"""PyTorch through torch.compile: frozen weights and autotuned products in inference, a compiled loss in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor, nn

from . import Network, Parameters, Peer
from . import torch_eager as eager

torch._dynamo.config.cache_size_limit = 64
INFERENCE = {"freezing": True, "max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}


class Contestant(eager.Contestant):
    """The linear half is eager PyTorch's: there is nothing in it to compile."""

    decomposition, pca_fit = Peer.decomposition, Peer.pca_fit
    pca_transform, pca_groups = Peer.pca_transform, Peer.pca_groups

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._models: dict[tuple[Network, str, int], Callable[[Tensor], Tensor]] = {}

    def inference(self, network: Network, parameters: Parameters, task: str, x: np.ndarray) -> Callable[[], Any]:
        key, rows = (network, task, len(x)), torch.from_numpy(x)
        if key not in self._models:
            model = eager.Dense(network.layers(parameters, task)).eval()
            self._models[key] = torch.compile(model, fullgraph=True, dynamic=False)
        compiled = self._models[key]

        def call() -> Tensor:
            with torch.inference_mode():
                return compiled(rows)

        with torch._inductor.config.patch(INFERENCE):  # as an option of torch.compile it would not freeze
            call()
        return call

    def _compiled(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return torch.compile(model, fullgraph=True, dynamic=False)
