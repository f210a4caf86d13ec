"""ONNX Runtime's C API, of the library that its Python package brings, through an I/O binding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from .. import native
from . import Network, Parameters, onnx_runtime
from .in_c import InC


class Contestant(InC):
    def command(self, network: Network, parameters: Parameters, task: str, inputs: np.ndarray, path: str) -> list[str]:
        (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
        onnx_runtime.Contestant(self.threads).save(network, parameters, task, inputs[0], path)
        return native.command(str(library), path, "-", "-", self.threads, inputs, network.width(task))
