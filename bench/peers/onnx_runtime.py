"""ONNX Runtime: Gemm graphs with constant weights, run through an I/O binding; int8 by its dynamic quantization."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from . import Calls, Layer, Network, Parameters, Peer


class Contestant(Peer):
    def inferences(self, network: Network, parameters: Parameters, task: str, inputs: Sequence[np.ndarray]) -> Calls:
        layers = network.layers(parameters, task)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        session = onnxruntime.InferenceSession(self._model(layers), options, providers=["CPUExecutionProvider"])
        out = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty((len(inputs[0]), len(layers[-1].bias)), np.float32))

        def call_of(x: np.ndarray) -> Callable[[], onnxruntime.OrtValue]:
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
            binding.bind_ortvalue_output("y", out)

            def call() -> onnxruntime.OrtValue:
                session.run_with_iobinding(binding)
                return out

            return call

        return [call_of(x) for x in inputs]

    def save(self, network: Network, parameters: Parameters, task: str, x: np.ndarray, path: str) -> None:
        Path(path).write_bytes(self._model(network.layers(parameters, task)))

    def _model(self, layers: list[Layer]) -> bytes:
        if self.weights == "float32":
            return _graph(layers)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(_graph(layers))
            quantize_dynamic(source, target)
            return target.read_bytes()


def _graph(layers: list[Layer]) -> bytes:
    operators = {"identity": "Identity", "relu": "Relu", "sigmoid": "Sigmoid"}
    nodes, constants, value = [], [], "x"
    for i, layer in enumerate(layers):
        constants += [numpy_helper.from_array(layer.weight, f"w{i}"), numpy_helper.from_array(layer.bias, f"b{i}")]
        last = "y" if i == len(layers) - 1 else f"a{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"h{i}"], transB=1))
        nodes.append(helper.make_node(operators[layer.activation], [f"h{i}"], [last]))
        value = last
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", layers[0].weight.shape[1]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", len(layers[-1].bias)])
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()
