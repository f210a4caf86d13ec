"""Weights kept in fewer bytes: what packing makes of float16 and int8, their products, and what all cost a model."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cases import Guarded, Maker, constant, each_set, normal, sparse, wide
from numerics import Rounding, assert_close, assert_same_bits

import latentcore as lc
from latentcore import _core
from latentcore.backends.cpu import COMPRESSED, Compressed, CpuBackend, aligned
from latentcore.datasets import load_mnist
from latentcore.ops import Clock
from latentcore.ops.linear import linear_forward
from latentcore.plan import Plan

DATA = os.environ.get("LATENTCORE_DATA")
SMALL = ("float16", "int8")
each_small = pytest.mark.parametrize("dtype", SMALL)
each_compressed = pytest.mark.parametrize("kind", COMPRESSED)
SHAPES = [  # rows, inputs, outputs
    (1, 1, 1), (1, 7, 15), (2, 130, 63), (3, 16, 17), (7, 33, 16), (15, 17, 33), (16, 63, 7), (17, 64, 130),
    (33, 15, 64), (63, 130, 17), (65, 1, 1), (5, 9, 40), (130, 65, 33), (130, 129, 100),
]  # fmt: skip


def unpacked(packed: Compressed, out: int, inputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers (out, in), the scale and the bias of each output."""
    panels, raw, dtype = -(-out // 16), packed.data, np.dtype(packed.kind)
    size = panels * inputs * 16 * dtype.itemsize
    numbers = raw[:size].view(dtype).reshape(panels, inputs, 16).transpose(0, 2, 1).reshape(-1, inputs)
    bias, *scale = raw[-(-size // 64) * 64 :].view(np.float32).reshape(-1, panels * 16)
    assert (numbers[out:] == 0).all()
    assert (bias[out:] == 0).all()
    return numbers[:out], scale[0][:out] if scale else np.ones(out, np.float32), bias[:out]


def rounded(w: np.ndarray, dtype: str) -> np.ndarray:
    """The weight (out, in + 1) that the numbers of a small dtype stand for, float64; the bias stays float32."""
    w = w.astype(np.float32)
    body = w[:, :-1]
    if dtype == "float16":
        kept = body.astype(np.float16).astype(np.float64)
    else:
        scale = np.abs(body).max(1, keepdims=True, initial=0) / np.float32(127)
        kept = np.rint(np.divide(body, scale, out=np.zeros_like(body), where=scale > 0)).astype(np.float64) * scale
    return np.hstack([kept, w[:, -1:]])


def product(
    x: np.ndarray, packed: Compressed, out: int, instruction_set: str, *, activation: str = "identity", threads: int = 1
) -> np.ndarray:
    """A linear layer over a packed weight; x lies beside NaN, and what it makes between canaries."""
    rows, inputs = x.shape
    plan = Plan("product")
    plan.input("x", "rows", inputs)
    plan.output("y", "rows", out)
    plan.call("linear_forward", y="y", x="x", w=plan.weight("w", out, inputs), activation=activation)
    given, made = Guarded(x.shape, "float32"), Guarded((rows, out), "float32")
    given.array[...] = x
    bound = CpuBackend().bind(plan, rows + 3, {"w": packed}, threads, instruction_set)
    bound.run({"x": given.array, "y": made.array}, Clock(rows=rows))
    made.assert_whole("y")
    return made.array.copy()


# ---- packing ---------------------------------------------------------------------------------------------------------


@each_small
@pytest.mark.parametrize("shape", [(1, 1), (15, 7), (16, 64), (17, 3), (33, 130)], ids=str)
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 500.0])
def test_numbers_are_the_nearest(dtype: str, shape: tuple[int, int], size: float) -> None:
    rng = np.random.default_rng(0)
    w = (size * rng.standard_normal((shape[0], shape[1] + 1)) * rng.choice([1, 1e-4], (*shape[:1], 1))).astype("f4")
    numbers, scale, bias = unpacked(CpuBackend.compress(w, dtype), *shape)
    assert_same_bits(bias.copy(), w[:, -1].copy())
    np.testing.assert_array_equal(numbers * scale[:, None].astype("f8"), rounded(w, dtype)[:, :-1])
    if dtype == "int8":
        np.testing.assert_array_equal(np.abs(numbers.astype(int)).max(1), 127)


def test_halves_between_two_go_to_the_even_one() -> None:
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype("f4")  # every one of them, denormal ones first
    between = (exact[1:] + exact[:-1]) / 2
    w = np.concatenate([exact, between, np.nextafter(between, 0), np.nextafter(between, 1e9)])
    w = np.concatenate([w, -w]).astype("f4")
    packed = CpuBackend.compress(np.append(w, 0)[None], "float16")
    assert_same_bits(unpacked(packed, 1, len(w))[0][0].copy(), w.astype(np.float16))


def test_integers_of_outputs_of_every_size() -> None:
    sizes = np.array([0, 1e-45, 1e-38, 1, 1e38, 3e38], "f4")
    w = sizes[:, None] * np.array([1, -0.4, 0.1, 0], "f4")
    numbers, scale, _ = unpacked(CpuBackend.compress(w, "int8"), 6, 3)
    np.testing.assert_array_equal(numbers[0], 0)
    assert scale[0] == 0
    np.testing.assert_array_equal(numbers[2:], [[127, -51, 13]] * 4)
    assert np.abs(numbers[1].astype(int)).max() <= 127


@pytest.mark.parametrize(
    ("dtype", "weight", "says"),
    [
        ("float16", 65505, r"weights: decoder\.0: expected numbers of at most 65504 in float16, got 65505"),
        ("float16", -1e9, r"weights: decoder\.0: expected numbers of at most 65504 in float16, got -1000000000"),
        ("float16", 1e39, r"weights: decoder\.0: expected finite numbers in float32"),
        ("int8", 1e39, r"weights: decoder\.0: expected finite numbers in float32"),
        ("int8_dynamic", 1e39, r"weights: decoder\.0: expected finite numbers in float32"),
    ],
)
def test_weights_beyond_the_dtype_are_refused(dtype: str, weight: float, says: str) -> None:
    model = lc.VAE(3, (), dtype="float64", random_state=0).initialize(5)
    model.set_parameters({"decoder.0.weight": np.full((5, 3), 65504.0), "decoder.0.bias": np.full(5, 1e9)})
    lc.compile(model, "decode", weights=dtype)
    wrong = np.ones((5, 3))
    wrong[4, 2] = weight
    model.set_parameters({"decoder.0.weight": wrong})
    with pytest.raises(ValueError, match=says):
        lc.compile(model, "decode", weights=dtype)


def test_packing_checks_its_arrays() -> None:
    joined, packed = np.zeros((4, 3), "f4"), np.zeros(_core.weight_bytes("int8", 4, 2), np.uint8)
    _core.pack_weight("int8", joined, packed)
    for args in (("int4", joined, packed), ("int8", joined[0], packed), ("int8", joined.astype("f8"), packed)):
        with pytest.raises(ValueError, match=r"expected (one of compressed\(\), got int4|a float32 array)"):
            _core.pack_weight(*args)
    with pytest.raises(ValueError, match="packed: expected at least 192 bytes"):
        _core.pack_weight("int8", joined, packed[1:])
    plan = _core.BoundPlan("baseline", True, 1, 1)
    with pytest.raises(ValueError, match="linear_forward:int8"):
        plan.add_call("linear_forward:int8", [], [], [])


# ---- products --------------------------------------------------------------------------------------------------------


@each_set
@each_small
@pytest.mark.parametrize("maker", [normal, sparse, constant(0), wide(1e4)], ids=["normal", "sparse", "zero", "wide"])
def test_product(dtype: str, instruction_set: str, maker: Maker) -> None:
    rng = np.random.default_rng(1)
    for rows, inputs, out in SHAPES:
        x = maker(rng, (rows, inputs)).astype("f4")
        w = (rng.standard_normal((out, inputs + 1)) * rng.choice([0, 1, 1e-5, 300], (out, 1))).astype("f4")
        want, exact = np.empty((rows, out)), rounded(w, dtype)
        linear_forward(want, None, x.astype("f8"), exact, activation="identity")
        packed = CpuBackend.compress(w, dtype)
        got = product(x, packed, out, instruction_set)
        scale = np.sqrt(x.astype("f8") ** 2 @ exact[:, :-1].T ** 2 + exact[:, -1] ** 2)
        assert_close(got, want, Rounding(scale, inputs + 1), "float32")
        for threads in (2, 3):
            assert_same_bits(product(x, packed, out, instruction_set, threads=threads), got)


@each_set
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@each_small
def test_activation(dtype: str, activation: str, instruction_set: str) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((5, 33)).astype("f4"), rng.standard_normal((35, 34))
    want = np.empty((5, 35))
    linear_forward(want, None, x.astype("f8"), rounded(w, dtype), activation=activation)
    got = product(x, CpuBackend.compress(w, dtype), 35, instruction_set, activation=activation)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@each_set
@each_small
def test_every_number_is_read_right(dtype: str, instruction_set: str) -> None:
    """Denormal halves, infinity and NaN among them, that nothing packs."""
    count = 256 ** np.dtype(dtype).itemsize
    packed = aligned((_core.weight_bytes(dtype, count, 1),), "uint8")
    numbers = packed[: count * np.dtype(dtype).itemsize].view(dtype)
    numbers[:] = np.arange(count).astype(f"u{numbers.itemsize}").view(dtype)
    if dtype == "int8":
        packed[-4 * count :].view("f4")[:] = 1
    want = numbers.astype("f4")
    got = product(np.ones((2, 1), "f4"), Compressed(dtype, packed), count, instruction_set)
    np.testing.assert_array_equal(got, [want, want])


@each_set
@each_small
def test_a_row_does_not_depend_on_the_batch(dtype: str, instruction_set: str) -> None:
    rng = np.random.default_rng(3)
    dense, few = rng.standard_normal((300, 70)), sparse(rng, (300, 70))
    w = rng.standard_normal((140, 71))
    w[::2, -1] = -0.0
    packed = CpuBackend.compress(w, dtype)

    def run(x: np.ndarray) -> np.ndarray:
        return product(x.astype("f4"), packed, 140, instruction_set, activation="tanh")

    for x in (dense, few, np.where(np.arange(300)[:, None] % 3 == 0, few, dense)):
        whole = run(x)
        for count in (1, 2, 3, 5, 16, 63, 129):
            for begin in (0, 150):
                assert_same_bits(run(x[begin : begin + count]), whole[begin : begin + count])
    alone = run(few[:64])
    assert_same_bits(run(np.stack([dense[:64], few[:64]], 1).reshape(128, 70))[1::2], alone)


# ---- models ----------------------------------------------------------------------------------------------------------


def small_vae(**options: object) -> lc.VAE:
    X = np.random.default_rng(4).random((64, 21))
    return lc.VAE(5, (33, 18), epochs=2, random_state=0, **options).fit(X)


@each_small
@pytest.mark.parametrize("function", ["encode", "posterior", "decode", "reconstruct", "score_samples"])
@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian", "variance": "learned"}], ids=["bernoulli", "gaussian"])
def test_functions_of_a_model(options: dict[str, object], function: str, dtype: str) -> None:
    model = small_vae(**options)
    weights = {name: w.astype("f8") for name, w in model.parameters().items()}
    for name in {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}:
        joined = rounded(np.column_stack([weights[f"{name}.weight"], weights[f"{name}.bias"]]), dtype)
        weights[f"{name}.weight"] = joined[:, :-1]
    exact = small_vae(**options, dtype="float64").set_parameters(weights)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((16, 5)) if function == "decode" else rng.random((16, 21))
    want = lc.compile(exact, function, batch=16)(x.astype("f4").astype("f8"))
    call = lc.compile(model, function, batch=16, weights=dtype)
    for got, wanted in zip(*(r if isinstance(r, tuple) else (r,) for r in (call(x.astype("f4")), want)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


@each_compressed
def test_a_snapshot(kind: str) -> None:
    model, z = small_vae(), np.ones((1, 5), "f4")
    call = lc.compile(model, "decode", weights=kind)
    before = call(z)
    lc.train(model, np.random.default_rng(6).random((64, 21)), epochs=3)
    assert_same_bits(call(z), before)
    assert (lc.compile(model, "decode", weights=kind)(z) != before).all()


@each_compressed
def test_pca(kind: str) -> None:
    X = np.random.default_rng(7).standard_normal((100, 24)) * np.linspace(1, 5, 24)
    model = lc.PCA(4, whiten=True).fit(X)
    x, z = X[:8].astype("f4"), np.random.default_rng(8).standard_normal((8, 4)).astype("f4")
    tolerance = {"float16": 2e-3, "int8": 3e-2, "int8_dynamic": 5e-2}[kind]
    for function, given, want in (
        ("transform", x, model.transform(X[:8])),
        ("inverse_transform", z, model.inverse_transform(z)),
        ("score_samples", x, model.score_samples(X[:8])),
    ):
        got = lc.compile(model, function, batch=8, weights=kind)(given)
        error = np.abs(got - want).max() / np.abs(want).max()
        assert 0 < error < tolerance


def test_error_report_of_reconstruct() -> None:
    rng = np.random.default_rng(9)
    model, X, more = small_vae(), rng.random((50, 21)), rng.random((64, 21))

    def nats(p: np.ndarray) -> float:
        p = p.astype("f8")
        return float(-(X * np.log(p) + (1 - X) * np.log1p(-p)).sum(1).mean())

    calls = {kind: lc.compile(model, "reconstruct", batch=50, weights=kind) for kind in (*COMPRESSED, "float64", "float32")}
    full = calls["float32"](X.astype("f4"))
    lc.train(model, more, epochs=1)  # the reports are of what was compiled
    for kind, call in calls.items():
        report = call.error_report(X)
        got = call(X.astype("f8" if kind == "float64" else "f4"))
        difference = np.abs(got - full.astype("f8"))
        np.testing.assert_allclose(report[:2], [difference.max(), difference.mean()], rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(report.loss, nats(got) / nats(full) - 1, rtol=1e-2, atol=2e-7)
    worst = {kind: call.error_report(X.tolist()).worst for kind, call in calls.items()}
    assert worst["float32"] == 0 < worst["float64"] < worst["float16"] < worst["int8"] < worst["int8_dynamic"] < 0.05


@pytest.mark.parametrize("function", ["encode", "posterior", "decode", "score_samples"])
def test_error_report_of_other_functions(function: str) -> None:
    rng = np.random.default_rng(10)
    X = rng.standard_normal((9, 5)) if function == "decode" else rng.random((9, 21))
    call = lc.compile(small_vae(), function, batch=9, weights="int8")
    full = lc.compile(small_vae(), function, batch=9)
    X = X.astype("f4")
    got, want = (r if isinstance(r, tuple) else (r,) for r in (call(X), full(X)))
    difference = np.concatenate([np.abs(a.astype("f8") - b).ravel() for a, b in zip(got, want, strict=True)])
    assert call.error_report(X) == (difference.max(), difference.mean(), None)
    assert call.clone().error_report(X) == call.error_report(X)


def test_error_report_of_a_pca_in_float64() -> None:
    X = np.random.default_rng(11).standard_normal((100, 24))
    model = lc.PCA(4).fit(X)
    report = lc.compile(model, "transform", weights="float16").error_report(X)
    want = np.abs(lc.compile(model, "transform", batch=100, weights="float16")(X.astype("f4")) - model.transform(X))
    assert report == (want.max(), want.mean(), None)


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.zeros((3, 20)), "X: expected 21 features, got 20"),
        (np.full((3, 21), np.nan), "X: expected finite numbers in float32, got NaN"),
        (np.full((3, 21), 2.0), r"X: expected data in \[0, 1\]"),
        (np.zeros(21), "X: expected a 2-D array"),
    ],
)
def test_error_report_checks_its_rows(X: np.ndarray, says: str) -> None:
    call = lc.compile(small_vae(), "reconstruct", weights="int8")
    with pytest.raises(ValueError, match=says):
        call.error_report(X)


@pytest.mark.skipif(DATA is None, reason="LATENTCORE_DATA names no folder with MNIST's files")
def test_the_loss_on_mnist() -> None:
    assert DATA is not None
    X, _ = load_mnist(DATA, "train")
    X_test, _ = load_mnist(DATA, "test")
    model = lc.VAE(20, (400,), epochs=2, random_state=0).fit(X)
    for dtype, most in (("float16", 5e-4), ("int8", 5e-3), ("int8_dynamic", 5e-3)):
        report = lc.compile(model, "reconstruct", weights=dtype).error_report(X_test)
        print(dtype, report)
        assert report.loss is not None
        assert abs(report.loss) < most
