"""A network in a process without Python: latency.cpp, built here, and what it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .sampling import Sampling, as_seconds, flush_bytes, settle

HERE = Path(__file__).parent
ROOT, BUILD = HERE.parent, HERE.parent / "build" / "bench"
PROGRAM = BUILD / "latency"


def build() -> None:
    """Compile the C library, where it changed, and latency.cpp against it. Raises FileNotFoundError without CMake or a
    compiler, subprocess.CalledProcessError."""
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if cmake is None:
        raise FileNotFoundError("cmake")
    _quietly([cmake, "-S", str(ROOT), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release"])
    _quietly([cmake, "--build", str(BUILD), "--target", "latentcore_static", "--parallel", str(os.cpu_count())])
    source, library = str(HERE / "latency.cpp"), str(BUILD / "liblatentcore.a")
    command = ["c++", "-std=c++17", "-O2", "-pthread", f"-I{ROOT / 'csrc' / 'include'}", "-o", str(PROGRAM), source, library]
    _quietly([*command, "-ldl"])


def _quietly(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        print(error.stdout, error.stderr, file=sys.stderr)
        raise


def command(engine: str, model: str, function: str, weights: str, threads: int, inputs: np.ndarray, width: int) -> list[str]:
    """What starts a network on inputs (count, batch, features); those are written beside the model."""
    if not PROGRAM.exists():
        raise FileNotFoundError(f"{PROGRAM} was not built")
    path = f"{model}.inputs"
    Path(path).write_bytes(inputs.tobytes())
    return [str(PROGRAM), engine, model, function, weights, *map(str, (threads, *inputs.shape, width)), path]


class Program:
    """A running network. It ends with this object."""

    def __init__(self, command: list[str], shape: tuple[int, ...]) -> None:
        """shape: (count, batch, width) of its outputs."""
        with tempfile.TemporaryFile() as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            try:
                self._read(np.float64, 1)
                self.outputs = self._read(np.float32, int(np.prod(shape))).reshape(shape)
            except EOFError:
                self.process.wait()
                errors.seek(0)
                raise RuntimeError(errors.read().decode(errors="replace").strip() or "it ended at once") from None

    def sample(self, order: Sampling) -> dict[str, Any]:
        """What `sampling.sample` gives, of the same calls without Python."""
        self._times(order.calls // 10 or 1, order, order.seconds / 10)
        times = self._times(order.calls, order, order.seconds)
        settle(self.process.pid)
        return {"times": times, "busy": None}

    def call_seconds(self) -> float:
        """The fastest of a few calls."""
        return float(self._times(5, Sampling(5), 0.05).min())

    def __del__(self) -> None:
        if hasattr(self, "process"):
            with self.process:  # which closes its pipes and waits
                self.process.kill()

    def _times(self, calls: int, order: Sampling, seconds: float) -> np.ndarray:
        limit = min(seconds, 3600.0) * 1e9
        request = f"{calls} {order.repeat} {limit:.0f} {flush_bytes() if order.flush else 0}\n"
        self.process.stdin.write(request.encode())
        self.process.stdin.flush()
        timer, count = self._read(np.float64, 1)[0], self._read(np.int64, 1)[0]
        return as_seconds(1e9 * self._read(np.float64, count), 1e9 * timer, order.repeat)

    def _read(self, dtype: type, count: int) -> np.ndarray:
        data = self.process.stdout.read(np.dtype(dtype).itemsize * int(count))
        if len(data) < np.dtype(dtype).itemsize * int(count):
            raise EOFError("the program ended")
        return np.frombuffer(data, dtype)
