"""PyTorch on a GPU, eager: products in full float32, as it starts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import torch_eager
from .on_gpu import OnGpu


class Contestant(OnGpu, torch_eager.Contestant):
    def __init__(self, threads: int, device: str) -> None:
        super().__init__(threads)
        self.device = torch.device(device)

    def host(self, output: Tensor) -> np.ndarray:
        return output.cpu().numpy()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
