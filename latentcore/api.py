"""The public functions over any model."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core, onnx
from .backends import get_backend, get_num_threads
from .backends.cpu import CpuBackend
from .checks import as_array, check_bool, check_int, check_option, check_seed, shown
from .io import read_model
from .models import MODELS, PCA, VAE, LatentModel, Model, files
from .models.snapshot import WEIGHTS, Snapshot
from .ops import Clock
from .training import train


def _check_model(model: Any, plan: str | None = None) -> None:
    """Raises TypeError for what is no fitted model, or none that builds that plan."""
    if not isinstance(model, Model) or (plan and not hasattr(model, f"_build_{plan}")):
        *names, last = [k for k, kind in MODELS.items() if plan is None or hasattr(kind, f"_build_{plan}")]
        raise TypeError(f"model: expected a {', '.join(names)} or {last}, got {shown(model)}")
    model._check_fitted()


def _check_function(model: Any, function: Any) -> None:
    """Raises TypeError or ValueError for what is no fitted model, or no function of it that ``compile`` offers."""
    _check_model(model)
    check_option(function, "function", model._functions())


def save(model: Model, path: Any) -> None:
    """Writes a model with all that training needs to go on, as one safetensors file, whole or not at all: it replaces a
    file of that name and keeps its permissions. path: str, bytes or os.PathLike. Raises TypeError or ValueError for a
    model whose constructor was given what no file can hold (a function, a generator, infinity), OSError."""
    _check_model(model)
    model._save(path)


def load(path: Any, backend: str = "auto") -> Model:
    """Reads a model that ``save`` or a checkpoint wrote. Raises ValueError, naming what is wrong, for any other file, for
    one that is damaged in any byte, and for weights that are not finite or do not reproduce the output stored with them;
    OSError; for backend="cuda" ImportError or RuntimeError where there is no GPU. What it allocates is bounded by the size
    of the file."""
    get_backend(backend)
    header, tensors = read_model(path)
    kind = header.get("model")
    if not isinstance(kind, str) or kind not in MODELS:
        raise ValueError(f"{path}: model: expected one of {', '.join(MODELS)}, got {shown(kind)}")
    return files.load(MODELS[kind], path, header, tensors, backend)  # type: ignore[no-any-return]


def sample(model: VAE | PCA, n: int, random_state: Any = None) -> np.ndarray:
    """The data means (n, n_features) of n codes drawn from the prior, for PCA that of probabilistic PCA; sample i is the
    same for every n. On any backend an array of NumPy's. Raises TypeError for a model that has no prior."""
    _check_model(model, "sample")
    n = check_int(n, "n", 0)
    return model._run(model._plan("sample"), {}, n, Clock(seed=check_seed(random_state)))["x_mean"]


def interpolate(model: LatentModel, *points: Any, steps: int = 9, method: str = "slerp", space: str = "data") -> np.ndarray:
    """The decoded path through two points or more, (rows, n_features): `steps` rows from each point to the next, ends
    included and shared, so that ``(points - 1) * (steps - 1) + 1`` in all. method: "slerp" or "linear". space: "data" for
    points of n_features, "latent" for codes; a point is one row, or an array of many. Raises TypeError or ValueError."""
    _check_model(model, "interpolate")
    check_int(steps, "steps", 2)
    check_option(method, "method", ("slerp", "linear"))
    check_option(space, "space", ("data", "latent"))
    check, engine = (model._check_data if space == "data" else model._check_codes), model._backend
    given = [check(_rows(as_array(p, f"points[{i}]", engine.device)), f"points[{i}]") for i, p in enumerate(points)]
    if sum(map(len, given)) < 2:
        raise ValueError(f"points: expected at least two, got {sum(map(len, given))}")
    joined = np.concatenate([engine.home(each) for each in given])
    codes = model.transform(joined) if space == "data" else joined
    place = np.arange((len(codes) - 1) * (steps - 1) + 1)
    segment = np.minimum(place // (steps - 1), len(codes) - 2)
    t = ((place - segment * (steps - 1)) / (steps - 1)).astype(codes.dtype)
    inputs = {"a": codes[segment], "b": codes[segment + 1], "t": t}
    if any(type(each) is not np.ndarray for each in given):
        inputs = {name: engine.keep(array) for name, array in inputs.items()}
    plan = model._plan("interpolate", method="slerp" if method == "slerp" else "lerp")
    return model._run(plan, inputs, len(place), Clock())["x_mean"]


def _rows(array: np.ndarray) -> np.ndarray:
    """One row as an array of one."""
    return array if array.ndim > 1 else array.reshape(1, -1)


def compile(
    model: Model,
    function: str,
    *,
    batch: int = 1,
    weights: str | None = None,
    threads: int = 1,
    release_gil: bool | None = None,
) -> _core.Function:
    """A snapshot of one function of a model for calls that cannot wait: "encode" (mean code), "posterior" (mean and
    log-variance), "decode", "reconstruct" or "score_samples"; of PCA "transform", "inverse_transform" or "score_samples";
    of an MLP "forward".

    The result is called as ``f(x)`` or ``f(x, out=out)`` with up to `batch` rows, C-contiguous and of the dtype of its
    arithmetic; it checks shape and dtype, nothing else, and allocates nothing if `out` is given ("posterior" takes a tuple
    of two), which must not overlap `x`. NumPy's arrays are the fast path; others in main memory that speak DLPack (PyTorch,
    JAX) are viewed by ``numpy.from_dlpack`` first; all else raises TypeError. One thread at a time may call it, any thread;
    a second one meanwhile gets a RuntimeError. ``f.clone()`` makes another function for another thread, which shares the
    weights. With threads=1 and the GIL kept a call takes no lock and makes no system call. Compiling and cloning run it
    once over zeros, so that the first call is like the next.

    weights: "float32" or "float64", the dtype of weights and arithmetic (None: the model's); "float16" or "int8", what the
    weights of layers are kept in under float32 arithmetic. For "int8" each output has a scale, its largest weight over 127;
    biases stay float32. "int8_dynamic" keeps the same weights, and rounds the rows that come into each layer too, to 256
    levels from their smallest to their largest number, 0 included: its sums are of integers, exact, and the fastest for many
    rows. There a row with NaN or infinity gives NaN, and a layer takes at most 66311 inputs. release_gil: None releases the
    GIL for runs of more than about 100 microseconds. Training the model later leaves it unchanged. It runs on the CPU,
    whatever the model's backend. Raises TypeError or ValueError, also for weights that the dtype does not reach.
    ``f.error_report(X)`` tells what `weights` costs on rows of input: the worst and the mean absolute difference of the
    outputs from those in the model's dtype, whose weights stay in memory for that, and for "reconstruct" the relative change
    of the mean reconstruction loss (its fields are worst, mean and loss)."""
    _check_function(model, function)
    batch = check_int(batch, "batch", 1, 2**31 - 1)
    threads = check_int(threads, "threads", 1, 256)
    kept = model._dtype if weights is None else check_option(weights, "weights", WEIGHTS)
    release = None if release_gil is None else check_bool(release_gil, "release_gil")
    snapshot = Snapshot(model, function, kept)
    bound = CpuBackend().bind(snapshot.plan, batch, snapshot.state, threads)
    return bound.function(release, weights=kept, error_report=snapshot.error_report)


def export_onnx(model: Model, path: Any, function: str | None = None) -> None:
    """Writes a function of a model as an ONNX file (opset 13), whole or not at all. function: any that ``compile`` offers;
    None means "reconstruct", of PCA "transform", of an MLP "forward". The graph has the model's dtype, its input and outputs
    are named as in ``model.plan(function)``, and the first dimension of each is "rows". ONNX Runtime reproduces the model's
    output to rounding; a GELU of float64 keeps seven digits. Raises ImportError without the package onnx, TypeError or
    ValueError for wrong arguments and for weights of 2 GiB or more, OSError."""
    _check_model(model)
    function = model._golden if function is None else function
    _check_function(model, function)
    plan = model._plan(function)
    states = {b.name: model._backend.get(model._storage[b.name], b).astype(b.dtype) for b in plan.of_role("state")}
    onnx.write_plan(plan, states, path, {"model": type(model).__name__, "function": function})


def show_config() -> str:
    """Prints, and returns, what the engine runs on; looks for a GPU."""
    lines = {
        "latentcore": _core.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "instruction set": f"{_core.instruction_sets()[0]} (of {', '.join(_core.instruction_sets())})",
        "threads": str(get_num_threads()),
        "backends": "cpu, cuda, reference",
        "GPU": _gpu(),
    }
    text = "\n".join(f"{name + ':':<17}{value}" for name, value in lines.items())
    print(text)  # noqa: T201
    return text


def _gpu() -> str:
    """What the backend "cuda" runs on, or what it lacks."""
    try:
        return str(get_backend("cuda").device)
    except (ImportError, RuntimeError) as error:
        return str(error).partition(": ")[2]


__all__: Sequence[str] = ("compile", "export_onnx", "interpolate", "load", "sample", "save", "show_config", "train")
