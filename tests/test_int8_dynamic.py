"""Weights kept in int8_dynamic: rows rounded to eight bits, sums exact, and so the same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cases import Guarded
from numerics import assert_same_bits

import latentcore as lc
from latentcore import _core
from latentcore.backends.cpu import Compressed, CpuBackend
from latentcore.ops import Clock
from latentcore.ops.linear import ACTIVATIONS, linear_forward
from latentcore.plan import Plan

KIND = "int8_dynamic"
VARIANTS = [(each, KIND) for each in _core.instruction_sets()]
if f"linear_forward:{KIND}:pairs" in _core.ops():  # of processors without AVX512-VNNI
    VARIANTS.append(("avx512", f"{KIND}:pairs"))
SIZES = (1, 3, 15, 17, 63, 65, 784, 1000)
MOST = (2**31 - 1) // (255 * 127)
TINY = np.float32(2**-126)
f4 = np.float32


def flush(a: np.ndarray) -> np.ndarray:
    """Denormals are zero inside a run."""
    return np.where(np.abs(a) < TINY, a * f4(0), a)


def integers(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers (out, in), the scale and the bias of each output of a weight (out, in + 1)."""
    body, bias = w[:, :-1], w[:, -1]
    scale = np.abs(body).max(1, initial=0) / f4(127)
    ratio = np.divide(body, scale[:, None], out=np.zeros_like(body), where=scale[:, None] > 0)
    return np.rint(ratio).clip(-127, 127).astype(np.int64), scale, bias


def rounded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers (rows, in), the zero point and the step of each row."""
    x = flush(x)
    finite = np.isfinite(x).all(1)
    given = np.where(finite[:, None], x, f4(0))
    low, high = given.min(1, initial=0), given.max(1, initial=0)
    step = flush(flush(high / f4(255)) - flush(low / f4(255)))
    factor = np.divide(f4(1), step, out=np.zeros_like(step), where=step > 0)
    zero = np.rint(-low * factor).astype(np.int64)
    q = np.rint(given * factor[:, None]).astype(np.int64) + zero[:, None]
    return np.minimum(q, 255), zero, np.where(finite, step, f4(np.nan))


@np.errstate(invalid="ignore", over="ignore", under="ignore")
def expected(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The definition: float32 throughout, but for the sums."""
    (numbers, scale, bias), (q, zero, step) = integers(w), rounded(x)
    sums = (q.astype("f8") @ numbers.T.astype("f8")).astype(np.int64) - zero[:, None] * numbers.sum(1)
    factor = flush(step[:, None] * flush(scale))
    return flush(flush(bias) + flush(factor * sums.astype(f4)))


def product(
    x: np.ndarray, w: Compressed, out: int, variant: tuple[str, str], *, activation: str = "identity", threads: int = 1
) -> np.ndarray:
    """A linear layer over a packed weight; x lies beside NaN, and what it makes between canaries."""
    plan = Plan("product")
    plan.input("x", "rows", x.shape[1])
    plan.output("y", "rows", out)
    plan.call("linear_forward", y="y", x="x", w=plan.weight("w", out, x.shape[1]), activation=activation)
    given, made = Guarded(x.shape, "float32"), Guarded((len(x), out), "float32")
    given.array[...] = x
    bound = CpuBackend().bind(plan, len(x) + 3, {"w": w._replace(kind=variant[1])}, threads, variant[0])
    bound.run({"x": given.array, "y": made.array}, Clock(rows=len(x)))
    made.assert_whole("y")
    return made.array.copy()


def weight(rng: np.random.Generator, out: int, inputs: int) -> np.ndarray:
    return (rng.standard_normal((out, inputs + 1)) * rng.choice([0, 1, 1e-5, 300], (out, 1), p=[0.1, 0.5, 0.2, 0.2])).astype(
        f4
    )


ROWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.random(shape) + 0.5,
    "negative": lambda rng, shape: -rng.random(shape) - 0.5,
    "relu": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "constant": lambda rng, shape: np.broadcast_to(rng.standard_normal((shape[0], 1)), shape),
    "zero": lambda rng, shape: rng.choice([0.0, -0.0], shape),
    "sizes": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.integers(-44, 38, (shape[0], 1)),
    "wide": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.integers(-44, 38, shape),
    "huge": lambda rng, shape: rng.choice([-3.4e38, 0, 3.4e38], shape),
    "ties": lambda rng, shape: rng.integers(-255, 256, shape) / 2,
}
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids="-".join)


@pytest.mark.parametrize("shape", [(1, 1), (15, 7), (16, 64), (17, 3), (33, 130)], ids=str)
def test_packing(shape: tuple[int, int]) -> None:
    out, inputs = shape
    w = weight(np.random.default_rng(0), out, inputs)
    panels, quads = -(-out // 16), -(-inputs // 4)
    numbers = np.zeros((panels * 16, quads * 4), np.int64)
    tail = np.zeros((3, panels * 16), f4)
    numbers[:out, :inputs], tail[1, :out], tail[0, :out] = integers(w)
    tail[2] = numbers.sum(1).astype(np.int32).view(f4)
    packed = CpuBackend.compress(w, KIND).data
    split = numbers.size
    assert split % 64 == 0
    got = packed[:split].view(np.int8).reshape(panels, quads, 16, 4).transpose(0, 2, 1, 3).reshape(numbers.shape)
    np.testing.assert_array_equal(got, numbers)
    np.testing.assert_array_equal(packed[split:].view(np.int32), tail.view(np.int32).ravel())


@each_variant
@pytest.mark.parametrize("inputs", SIZES)
def test_sizes(inputs: int, variant: tuple[str, str]) -> None:
    rng = np.random.default_rng(inputs)
    for out in SIZES:
        for rows in (1, 2, 7, 17) if inputs * out > 1e5 else (1, 2, 3, 4, 5, 8, 13, 16, 65, 130):
            x, w = rng.standard_normal((rows, inputs)).astype(f4), weight(rng, out, inputs)
            packed, want = CpuBackend.compress(w, KIND), expected(x, w)
            assert_same_bits(product(x, packed, out, variant), want)
    for threads in (2, 3):
        assert_same_bits(product(x, packed, out, variant, threads=threads), want)


@each_variant
@pytest.mark.parametrize("maker", ROWS.values(), ids=ROWS.keys())
def test_rows_of_every_kind(maker: Callable[..., np.ndarray], variant: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    for rows, inputs, out in ((1, 70, 33), (2, 1, 17), (5, 3, 16), (70, 130, 40)):
        with np.errstate(over="ignore", under="ignore"):
            x, w = maker(rng, (rows, inputs)).astype(f4), weight(rng, out, inputs)
        assert np.isfinite(x).all()
        w[::3, -1] = -0.0
        packed, want = CpuBackend.compress(w, KIND), expected(x, w)  # beyond 3.4e38 it is infinity or NaN
        np.testing.assert_array_equal(product(x, packed, out, variant), want)
        np.testing.assert_array_equal(product(x, packed, out, variant, activation="relu"), np.maximum(want, f4(0)))


@each_variant
@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid"])
def test_a_row_that_is_not_finite(activation: str, wrong: float, variant: tuple[str, str]) -> None:
    """NaN in all its outputs, of weights that are zero too; the other rows as without it."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((17, 70)).astype(f4), weight(rng, 40, 70)
    packed = CpuBackend.compress(w, KIND)
    want = product(x, packed, 40, variant, activation=activation)
    for row, place in ((0, 0), (3, 69), (16, 31)):
        given = x.copy()
        given[row, place] = wrong
        got = product(given, packed, 40, variant, activation=activation)
        assert np.isnan(got[row]).all()
        assert_same_bits(np.delete(got, row, 0), np.delete(want, row, 0))


@each_variant
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation: str, variant: tuple[str, str]) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((19, 33)).astype(f4), weight(rng, 35, 33)
    sums = expected(x, w).astype("f8")
    want = np.empty((19, 35))
    linear_forward(want, None, sums, np.eye(35, 36), activation=activation)
    got = product(x, CpuBackend.compress(w, KIND), 35, variant, activation=activation)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@each_variant
def test_a_row_does_not_depend_on_the_batch(variant: tuple[str, str]) -> None:
    rng = np.random.default_rng(4)
    x, packed = rng.standard_normal((300, 70)).astype(f4), CpuBackend.compress(weight(rng, 140, 70), KIND)
    whole = product(x, packed, 140, variant, activation="tanh")
    for count in (1, 2, 3, 5, 16, 63, 129):
        for begin in (0, 150):
            part = product(x[begin : begin + count], packed, 140, variant, activation="tanh")
            assert_same_bits(part, whole[begin : begin + count])


@each_variant
def test_the_most_inputs(variant: tuple[str, str]) -> None:
    """The largest sums that there are, in both directions."""
    w = np.ones((2, MOST + 1), f4) * f4([[1], [-1]])
    x = np.ones((3, MOST), f4) * f4([[1], [-1], [0.5]])
    got = product(x, CpuBackend.compress(w, KIND), 2, variant)
    assert_same_bits(got, expected(x, w))
    np.testing.assert_allclose(got, x.astype("f8") @ w[:, :-1].T + w[:, -1], rtol=1e-5)


def test_more_inputs_are_refused() -> None:
    says = f"weights: 0: expected at most {MOST} inputs in int8_dynamic, got {MOST + 1}"
    model = lc.MLP((MOST + 1, 1), ("relu",), random_state=0).initialize()
    with pytest.raises(ValueError, match=says):
        lc.compile(model, "forward", weights=KIND)


def test_layers_one_after_the_other() -> None:
    """A model is that of its layers, and its functions those of the model."""
    X = np.random.default_rng(5).random((40, 21)).astype(f4)
    model = lc.Autoencoder(5, (33, 18), activation="relu", epochs=2, random_state=0).fit(X)
    w = {name: np.asarray(each, f4) for name, each in model.parameters().items()}

    def layer(x: np.ndarray, name: str) -> np.ndarray:
        return expected(x, np.column_stack([w[f"{name}.weight"], w[f"{name}.bias"]]))

    hidden = np.maximum(layer(np.maximum(layer(X, "encoder.0"), f4(0)), "encoder.1"), f4(0))
    assert_same_bits(lc.compile(model, "encode", batch=40, weights=KIND)(X), layer(hidden, "latent"))
