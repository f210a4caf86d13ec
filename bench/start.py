"""`python -m bench.start CONTESTANT FILE [numpy]`: from a saved network to its first output, in this fresh process. Prints
the seconds that it took (float64) and the output (float32). FILE.inputs holds the input, one float32 row. With `numpy`,
NumPy is imported before the clock starts."""

from __future__ import annotations

import sys
import time
from typing import Any

THREADS = 1


def engine(path: str, row: bytes) -> Any:
    import numpy as np

    import latentcore as lc

    return lc.compile(lc.load(path), "decode", threads=THREADS)(np.frombuffer(row, np.float32).reshape(1, -1))


def onnx_runtime(path: str, row: bytes) -> Any:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.frombuffer(row, np.float32).reshape(1, -1)})[0]


def torch_eager(path: str, row: bytes) -> Any:
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    state = torch.load(path, weights_only=True)
    (hidden, latent), (features, _) = state["0.weight"].shape, state["2.weight"].shape
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features), nn.Sigmoid())
        model.load_state_dict(state)
        return model(torch.frombuffer(bytearray(row), dtype=torch.float32).reshape(1, -1)).numpy()


def torch_compiled(path: str, row: bytes) -> Any:
    import torch

    torch.set_num_threads(THREADS)
    model = torch._inductor.aoti_load_package(path)
    with torch.inference_mode():
        return model(torch.frombuffer(bytearray(row), dtype=torch.float32).reshape(1, -1)).numpy()


def jax_jit(path: str, row: bytes) -> Any:
    import jax.export
    import numpy as np

    with open(path, "rb") as file:  # noqa: PTH123
        function = jax.export.deserialize(bytearray(file.read()))
    return np.asarray(function.call(np.frombuffer(row, np.float32).reshape(1, -1)))


def main() -> None:
    name, path, *before = sys.argv[1:]
    with open(f"{path}.inputs", "rb") as file:  # noqa: PTH123
        row = file.read()
    if before:
        import numpy  # noqa: F401
    begin = time.perf_counter()
    output = globals()[name](path, row)
    seconds = time.perf_counter() - begin

    import numpy as np

    sys.stdout.buffer.write(np.float64(seconds).tobytes() + np.ascontiguousarray(output).tobytes())


if __name__ == "__main__":
    main()
