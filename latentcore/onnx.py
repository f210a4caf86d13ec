"""A plan as an ONNX graph: a converter for each op of inference says in ONNX what the op's reference says in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._core import __version__
from .io import write_file
from .ops.linear import LEAKY_SLOPE
from .ops.random import philox_normal
from .ops.special import LOGVAR_MAX, LOGVAR_MIN
from .plan import Plan

OPSET, IR_VERSION = 13, 7  # of 2020: every runtime reads them
_MOST_BYTES = 2**31 - 2**20  # of weights: protobuf writes no message of 2 GiB
_FEATURES = np.array([1])  # the axis


def write_plan(plan: Plan, states: Mapping[str, np.ndarray], path: Any, properties: Mapping[str, str]) -> None:
    """Writes a plan as an ONNX file, whole or not at all. states: a weight as (out, in + 1), the bias its last column.
    properties: metadata of the file. Raises ImportError without the package onnx, TypeError for an op that has no
    converter, ValueError for states of 2 GiB, OSError."""
    write_file(path, _Graph(plan, states).model(properties).SerializeToString())


class _Graph:
    """An ONNX graph under construction. A value has the name of its buffer in the plan, or one made up."""

    def __init__(self, plan: Plan, states: Mapping[str, np.ndarray]) -> None:
        try:
            import onnx
        except ImportError:
            raise ImportError("export_onnx: needs the package onnx: pip install 'latentcore[onnx]'") from None
        size = sum(array.nbytes for array in states.values())
        if size > _MOST_BYTES:
            raise ValueError(f"model: its weights take {size} bytes, an ONNX file holds at most {_MOST_BYTES}")
        self.onnx, self.plan, self.states = onnx, plan, states
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        for call in plan.calls:
            convert = _CONVERTERS.get(call.op)
            if convert is None or call.options.get("samples", 1) != 1:
                shown = ", ".join(f"{k}={v}" for k, v in call.options.items())
                raise TypeError(f"{plan.name}: the op {call.op}({shown}) cannot be exported to ONNX")
            convert(self, *call.arguments, **call.options)

    def model(self, properties: Mapping[str, str]) -> Any:
        """The graph as a model."""
        helper, plan = self.onnx.helper, self.plan
        inputs, outputs = (
            [helper.make_tensor_value_info(b.name, self.type(b.dtype), b.shape) for b in plan.of_role(role)]
            for role in ("input", "output")
        )
        model = helper.make_model(
            helper.make_graph(self.nodes, plan.name, inputs, outputs, list(self.constants.values())),
            producer_name="latentcore",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, dict(properties))
        return model

    def type(self, dtype: str) -> int:
        """ONNX's number of a dtype."""
        return int(self.onnx.TensorProto.DOUBLE if dtype == "float64" else self.onnx.TensorProto.FLOAT)

    def width(self, buffer: str) -> int:
        """The features of a buffer (rows, features)."""
        return int(self.plan.buffers[buffer].shape[1])

    def add(self, op: str, *inputs: str | np.ndarray, output: str | None = None, **attributes: Any) -> str:
        """Appends a node; an array becomes a constant. Returns the name of its output."""
        output = output or f"{op}:{len(self.nodes)}"
        names = [i if isinstance(i, str) else self.constant(f"constant:{len(self.constants)}", i) for i in inputs]
        self.nodes.append(self.onnx.helper.make_node(op, names, [output], **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Keeps an array, once, under a name; returns the name."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def number(self, value: float) -> np.ndarray:
        """A constant of the plan's dtype."""
        return np.array(value, self.plan.dtype)

    def cast(self, x: str, dtype: str = "float64", output: str | None = None) -> str:
        """x in another dtype; sums over features are taken in float64."""
        return self.add("Cast", x, to=self.type(dtype), output=output)

    def columns(self, x: str, begin: int, end: int, output: str | None = None) -> str:
        """Columns of x (rows, features)."""
        return self.add("Slice", x, np.array([begin]), np.array([end]), _FEATURES, output=output)

    def row_sums(self, x: str, output: str | None = None) -> str:
        """The sum of each row of x (rows, features)."""
        return self.add("ReduceSum", x, _FEATURES, output=output, keepdims=0)


# ---- activations: of x, into y ---------------------------------------------------------------------------------------
# ONNX Runtime has no LeakyRelu, Softplus or Erf of float64: the first two are spelled out, and the GELU of float64 takes
# its erf in float32.

_ACTIVATIONS: dict[str, Callable[[_Graph, str, str], str]] = {
    "relu": lambda g, x, y: g.add("Relu", x, output=y),
    "leaky_relu": lambda g, x, y: g.add("Max", x, g.add("Mul", x, g.number(LEAKY_SLOPE)), output=y),
    "tanh": lambda g, x, y: g.add("Tanh", x, output=y),
    "sigmoid": lambda g, x, y: g.add("Sigmoid", x, output=y),
    "softplus": lambda g, x, y: _softplus(g, x, g.number(1), y),
    "gelu": lambda g, x, y: g.add("Mul", x, _normal_cdf(g, x), output=y),
    "silu": lambda g, x, y: g.add("Mul", x, g.add("Sigmoid", x), output=y),
}


def _softplus(g: _Graph, x: str, one: np.ndarray, y: str | None = None) -> str:
    e = g.add("Exp", g.add("Neg", g.add("Abs", x)))
    return g.add("Add", g.add("Relu", x), g.add("Log", g.add("Add", e, one)), output=y)


def _normal_cdf(g: _Graph, x: str) -> str:
    scaled = g.cast(g.add("Mul", x, g.number(1 / math.sqrt(2))), "float32")
    erf = g.cast(g.add("Erf", scaled), g.plan.dtype)
    return g.add("Mul", g.add("Add", erf, g.number(1)), g.number(0.5))


# ---- converters: a buffer's name for each argument of the op, outputs first ------------------------------------------


def _linear_forward(g: _Graph, y: str, before: None, x: str, w: str, *, activation: str) -> None:
    convert, joined = _ACTIVATIONS.get(activation), g.states[w]
    weight, bias = g.constant(f"{w}.weight", joined[:, :-1]), g.constant(f"{w}.bias", joined[:, -1])
    sums = g.add("Gemm", x, weight, bias, transB=1, output=None if convert else y)
    if convert:
        convert(g, sums, y)


def _posterior_forward(g: _Graph, mu: str | None, logvar: str | None, h: str) -> None:
    codes = g.width(h) // 2
    if mu:
        g.columns(h, 0, codes, mu)
    if logvar:
        _clamped(g, g.columns(h, codes, 2 * codes), logvar)


def _clamped(g: _Graph, logvar: str, output: str | None = None) -> str:
    return g.add("Clip", logvar, g.number(LOGVAR_MIN), g.number(LOGVAR_MAX), output=output)


def _latent_forward(
    g: _Graph, z: str, kl_dim: None, kl: str, log_ratio: None, h: str, noise: None, row: None, *, samples: int, stream: int
) -> None:
    codes = g.width(h) // 2
    mu, v = g.cast(g.columns(h, 0, codes)), g.cast(_clamped(g, g.columns(h, codes, 2 * codes)))
    alike = philox_normal(0, np.zeros(1), codes, 0, stream)  # without `row` all rows draw the same
    spread = g.add("Mul", g.add("Exp", g.add("Mul", v, np.array(0.5))), alike)
    g.cast(g.add("Add", mu, spread), g.plan.dtype, z)
    excess = g.add("Sub", g.add("Sub", g.add("Exp", v), np.array(1.0)), v)
    g.row_sums(g.add("Mul", g.add("Add", g.add("Mul", mu, mu), excess), np.array(0.5)), kl)


def _shift_forward(g: _Graph, y: str, x: str, by: str, *, subtract: bool) -> None:
    moved = g.add("Sub" if subtract else "Add", g.cast(x), g.constant(by, g.states[by]))
    g.cast(moved, g.plan.dtype, y)


def _bernoulli_forward(
    g: _Graph, loss: str, dlogits: None, logits: str, x: str, *, samples: int, mean_over_rows: bool
) -> None:
    wide = g.cast(logits)
    g.row_sums(g.add("Sub", _softplus(g, wide, np.array(1.0)), g.add("Mul", wide, g.cast(x))), loss)


def _gaussian_forward(
    g: _Graph, loss: str, dmean: None, dlog_variance: None, mean: str, x: str, log_variance: str | None, *,
    samples: int, mean_over_rows: bool, variance: float,
) -> None:  # fmt: skip
    log_s = math.log(variance)
    if log_variance:
        log_s = min(max(float(g.states[log_variance][0, 0]), LOGVAR_MIN), LOGVAR_MAX)
    square = g.add("Mul", _squares(g, g.add("Sub", g.cast(mean), g.cast(x))), np.array(0.5 * math.exp(-log_s)))
    g.add("Add", square, np.array(0.5 * g.width(x) * (log_s + math.log(2 * math.pi))), output=loss)


def _squares(g: _Graph, x: str, over: np.ndarray | None = None) -> str:
    """The sum of squares of each row of x, each square divided by `over`."""
    square = g.add("Mul", x, x)
    return g.row_sums(square if over is None else g.add("Div", square, over))


def _score_forward(g: _Graph, score: str, recon: str, kl: str | None, *, samples: int) -> None:
    g.add("Neg", g.add("Add", recon, kl) if kl else recon, output=score)


def _probabilistic_pca_forward(
    g: _Graph, loglik: str, xc: str | None, xr: str | None, z: str, variance: str, noise: str
) -> None:
    codes, outside = g.states[variance], g.states[noise]
    total, features = _squares(g, g.cast(z), codes), len(codes)
    constant = np.log(codes).sum()
    if xc and xr:
        features = g.width(xc)
        constant += (features - len(codes)) * np.log(outside[0])
        total = g.add("Add", total, _squares(g, g.add("Sub", g.cast(xc), g.cast(xr)), outside))
    constant += features * math.log(2 * math.pi)
    g.add("Mul", g.add("Add", total, np.array(constant)), np.array(-0.5), output=loglik)


_CONVERTERS: dict[str, Callable[..., None]] = {
    "linear_forward": _linear_forward,
    "posterior_forward": _posterior_forward,
    "latent_forward": _latent_forward,
    "shift_forward": _shift_forward,
    "bernoulli_forward": _bernoulli_forward,
    "gaussian_forward": _gaussian_forward,
    "score_forward": _score_forward,
    "probabilistic_pca_forward": _probabilistic_pca_forward,
}
