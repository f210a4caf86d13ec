"""Linear layers on the GPU: tiles of the outputs, each output one chain of multiply-adds over ascending k from the bias."""

from __future__ import annotations

from typing import Any

from .adam_cuda import adam_arguments, adam_step
from .elementary_cuda import erf, exp, expm1, extent, is_whole, sigmoid, softplus, tanh
from .launches import Emitter, Operand, Table, device_function, divide_up, tl, triton_kernel

# Rows, columns and k of a tile, and its threads, by the shape of the weight and its dtype: a small layer is cut finer, so
# that it fills the device; numbers of 64 bits take twice the registers.
_SMALL = {"float32": (16, 32, 64, 128), "float64": (16, 32, 16, 128)}
_LARGE = {"float32": (64, 64, 32, 256), "float64": (32, 64, 16, 128)}
_WEIGHT = {"float32": (32, 32, 32), "float64": (32, 32, 16)}


def _tile(w: Operand) -> tuple[int, int, int, int]:
    return (_LARGE if min(w.dims[0][0], w.dims[1][0]) >= 1024 else _SMALL)[w.dtype]


@device_function
def activate(x, ACTIVATION: tl.constexpr):
    """The activation."""
    if ACTIVATION == "relu":
        x = tl.where(x <= 0, 0.0, x)  # NaN stays
    elif ACTIVATION == "leaky_relu":
        x = tl.where(x > 0, x, x * 0.01)
    elif ACTIVATION == "tanh":
        x = tanh(x)
    elif ACTIVATION == "sigmoid":
        x = sigmoid(x)
    elif ACTIVATION == "softplus":
        x = softplus(x)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * erf(x * 0.7071067811865476) + 0.5 * x
    elif ACTIVATION == "silu":
        x = x * sigmoid(x)
    return x


@device_function
def derivative(y, x, ACTIVATION: tl.constexpr):
    """Its derivative, from its value y, or from its argument x for the two whose value does not tell."""
    if ACTIVATION == "relu":
        d = tl.where(y > 0, 1.0, 0.0)
    elif ACTIVATION == "leaky_relu":
        d = tl.where(y > 0, 1.0, tl.full(y.shape, 0.01, y.dtype))  # a number alone would be float32
    elif ACTIVATION == "tanh":
        d = (1.0 - y) * (1.0 + y)
    elif ACTIVATION == "sigmoid":
        d = y * (1.0 - y)
    elif ACTIVATION == "softplus":
        d = -expm1(-y)
    elif ACTIVATION == "gelu":
        d = x * (exp(x * x * -0.5) * 0.3989422804014327) + (0.5 * erf(x * 0.7071067811865476) + 0.5)
    else:
        s = sigmoid(x)
        d = s * (x * (1.0 - s) + 1.0)
    return d


@device_function
def output_tile(columns, M: tl.constexpr, N: tl.constexpr):
    """The rows (M,), int64, and the columns (N,) that this program makes. Tiles lie in one dimension of the grid, side by
    side first: in the others there is no room for many rows."""
    across, tile = (columns + N - 1) // N, tl.program_id(0)
    return (tile // across).to(tl.int64) * M + tl.arange(0, M), tile % across * N + tl.arange(0, N)


@triton_kernel
def linear_forward_tile(
    clock, y, before, x, w, r, o, i, pitch,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """y[r, o] = activation(x[r, i] w + bias); before: the sums."""
    rows, k = extent(clock, r), tl.arange(0, K)
    m, n = output_tile(o, M, N)
    inside = (m < rows)[:, None] & (n < o)[None, :]
    sums = tl.zeros((M, N), x.dtype.element_ty) + tl.load(w + i * pitch + n, mask=n < o, other=0.0)[None, :]
    for begin in range(0, i, K):
        a = tl.load(x + m[:, None] * i + (begin + k)[None, :], (m < rows)[:, None] & (begin + k < i)[None, :], other=0.0)
        b = tl.load(w + (begin + k)[:, None] * pitch + n[None, :], (begin + k < i)[:, None] & (n < o)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=sums.dtype)
    place = m[:, None] * o + n[None, :]
    if before is not None:
        tl.store(before + place, sums, inside)
    tl.store(y + place, activate(sums, ACTIVATION), inside)


@triton_kernel
def linear_backward_input_tile(
    clock, dx, dy, w, x, before, r, o, i, pitch,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dx[r, i] = dy[r, o] w' times the derivative of the activation below."""
    rows, k = extent(clock, r), tl.arange(0, K)
    m, n = output_tile(i, M, N)
    inside = (m < rows)[:, None] & (n < i)[None, :]
    d = tl.zeros((M, N), dy.dtype.element_ty)
    for begin in range(0, o, K):
        a = tl.load(dy + m[:, None] * o + (begin + k)[None, :], (m < rows)[:, None] & (begin + k < o)[None, :], other=0.0)
        b = tl.load(w + n[None, :] * pitch + (begin + k)[:, None], (begin + k < o)[:, None] & (n < i)[None, :], other=0.0)
        d = tl.dot(a, b, d, input_precision=PRECISION, out_dtype=d.dtype)
    place = m[:, None] * i + n[None, :]
    if ACTIVATION != "identity":
        value = tl.load(x + place, inside, other=0.0)
        argument = value
        if before is not None:
            argument = tl.load(before + place, inside, other=0.0)
        d = d * derivative(value, argument, ACTIVATION)
    tl.store(dx + place, d, inside)


@device_function
def gradient_tile(dy, x, rows, o, i, m, n, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """Of the gradient of a weight as it lies, rows m (inputs, then the bias) and columns n (outputs): x' dy."""
    k = tl.arange(0, K)
    sums = tl.zeros((M, N), dy.dtype.element_ty)
    for begin in range(0, rows, K):
        row = begin + k
        place = row.to(tl.int64)
        a = tl.load(x + place[None, :] * i + m[:, None], (row < rows)[None, :] & (m < i)[:, None], other=0.0)
        a = tl.where((m == i)[:, None], 1.0, a).to(a.dtype)
        b = tl.load(dy + place[:, None] * o + n[None, :], (row < rows)[:, None] & (n < o)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=sums.dtype)
    return sums


@triton_kernel
def linear_backward_weight_tile(
    clock, dw, dy, x, r, o, i, pitch,
    ACCUMULATE: tl.constexpr, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dw = dy' x, and the column sums of dy; the padding is 0."""
    m, n = tl.program_id(0) * M + tl.arange(0, M), tl.program_id(1) * N + tl.arange(0, N)
    g = gradient_tile(dy, x, extent(clock, r), o, i, m, n, PRECISION, M, N, K)
    place, inside = dw + m[:, None] * pitch + n[None, :], (m <= i)[:, None] & (n < pitch)[None, :]
    if ACCUMULATE:
        g += tl.load(place, inside, other=0.0)
    tl.store(place, g, inside)


@triton_kernel
def linear_backward_update_tile(
    clock, layers, first, learning_rate, log_beta1, log_beta2, beta1, beta2, epsilon, weight_decay,
    DOUBLE: tl.constexpr, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The gradients of several layers, each tile handed to Adam. layers: of each its first tile, then w, m, v, dy, x, r, o,
    i, pitch."""
    tile = tl.program_id(0)
    layer = tl.zeros((), tl.int32)
    for other in range(1, first):
        layer += (tl.load(layers + other * 10) <= tile).to(tl.int32)
    row = layers + layer * 10
    tile -= tl.load(row).to(tl.int32)
    if DOUBLE:
        pointer = tl.pointer_type(tl.float64)
    else:
        pointer = tl.pointer_type(tl.float32)
    w = tl.load(row + 1).to(pointer)
    moment1 = tl.load(row + 2).to(pointer)
    moment2 = tl.load(row + 3).to(pointer)
    dy = tl.load(row + 4).to(pointer)
    x = tl.load(row + 5).to(pointer)
    rows = extent(clock, tl.load(row + 6).to(tl.int32))
    o = tl.load(row + 7).to(tl.int32)
    i = tl.load(row + 8).to(tl.int32)
    pitch = tl.multiple_of(tl.load(row + 9).to(tl.int32), 16)
    wide = (o + N - 1) // N
    m, n = tile // wide * M + tl.arange(0, M), tile % wide * N + tl.arange(0, N)
    g = gradient_tile(dy, x, rows, o, i, m, n, PRECISION, M, N, K)
    place, inside = m[:, None] * pitch + n[None, :], (m <= i)[:, None] & (n < o)[None, :]
    adam_step(
        clock, w + place, moment1 + place, moment2 + place, g, inside & is_whole(clock), learning_rate,
        log_beta1, log_beta2, beta1, beta2, epsilon, weight_decay,
    )  # fmt: skip


def linear_forward(emit: Emitter, y: Operand, before: Operand | None, x: Operand, w: Operand, *, activation: str) -> None:
    """Tiles of y."""
    out, inputs = w.dims[0][0], w.dims[1][0]
    m, n, k, threads = _tile(w)
    emit(
        linear_forward_tile, divide_up(out, n) * divide_up(emit.most(x.size(0)), m), threads=threads, y=y, before=before,
        x=x, w=w, r=x.size(0), o=out, i=inputs, pitch=w.pitch, ACTIVATION=activation, PRECISION=emit.precision,
        M=m, N=n, K=k,
    )  # fmt: skip


def linear_backward_input(
    emit: Emitter, dx: Operand, dy: Operand, w: Operand, x: Operand | None, before: Operand | None, *, activation: str
) -> None:
    """Tiles of dx."""
    out, inputs = w.dims[0][0], w.dims[1][0]
    m, n, k, threads = _tile(w)
    emit(
        linear_backward_input_tile, divide_up(inputs, n) * divide_up(emit.most(dy.size(0)), m), threads=threads, dx=dx,
        dy=dy, w=w, x=x, before=before, r=dy.size(0), o=out, i=inputs, pitch=w.pitch, ACTIVATION=activation,
        PRECISION=emit.precision, M=m, N=n, K=k,
    )  # fmt: skip


def linear_backward_weight(emit: Emitter, dw: Operand, dy: Operand, x: Operand, *, accumulate: bool) -> None:
    """Tiles of dw."""
    out, inputs = dw.dims[0][0], dw.dims[1][0]
    m, n, k = _WEIGHT[dw.dtype]
    emit(
        linear_backward_weight_tile, divide_up(inputs + 1, m), divide_up(dw.pitch, n), dw=dw, dy=dy, x=x, r=x.size(0),
        o=out, i=inputs, pitch=dw.pitch, ACCUMULATE=accumulate, PRECISION=emit.precision, M=m, N=n, K=k,
    )  # fmt: skip


def linear_backward_update(emit: Emitter, layers: list[dict[str, Any]]) -> None:
    """Tiles of all the layers in one launch."""
    m, n, k = _WEIGHT[layers[0]["w"].dtype]
    rows, first = [], 0
    for a in layers:
        w = a["w"]
        out, inputs = w.dims[0][0], w.dims[1][0]
        rows.append((first, w, a["m"], a["v"], a["dy"], a["x"], a["x"].size(0), out, inputs, w.pitch))
        first += divide_up(inputs + 1, m) * divide_up(out, n)
    last = layers[-1]
    emit(
        linear_backward_update_tile, first, layers=Table(tuple(rows)), first=len(rows), **adam_arguments(last),
        learning_rate=last["learning_rate"], DOUBLE=last["w"].dtype == "float64", PRECISION=emit.precision, M=m, N=n, K=k,
    )  # fmt: skip


LAUNCHES = {f.__name__: f for f in (linear_forward, linear_backward_input, linear_backward_weight, linear_backward_update)}
