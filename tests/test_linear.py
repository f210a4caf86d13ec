"""The linear layer: activations, products of sizes of every kind, and bits that do not depend on how it is run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import (
    Case,
    Values,
    assert_agrees,
    assert_differentiates,
    assert_tight,
    away_from_zero,
    constant,
    denormal,
    each,
    each_dtype,
    each_set,
    execute,
    given,
    normal,
    positive,
    smooth,
    sparse,
    values_of,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits

from latentcore.ops.linear import ACTIVATIONS, KEEPS_INPUT, linear_backward_input, linear_forward

# The steepest slope of an activation (gelu's).
STEEPEST = 1.13
SHAPES = [  # rows, inputs, outputs
    (1, 1, 1), (1, 7, 15), (2, 130, 63), (3, 16, 17), (7, 33, 16), (15, 17, 33), (16, 63, 7), (17, 64, 130),
    (33, 15, 64), (63, 130, 17), (65, 1, 1), (5, 9, 40), (130, 65, 33),
]  # fmt: skip
SHARED = (130, 129, 100)  # worth a second thread
SPARSE = [(1, 130, 33), (3, 64, 63), (65, 130, 17), (130, 129, 33), SHARED]


def root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(squares)


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """The activation alone: a layer whose weight is the identity."""
    y = np.empty_like(x)
    linear_forward(y, None, x, np.eye(x.shape[1], x.shape[1] + 1), activation=activation)
    return y


def affine(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    y = np.empty((len(x), len(w)))
    linear_forward(y, None, x, w, activation="identity")
    return y


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    x, w = v["x"], v["w"]
    sums, length = root(x**2 @ w[:, :-1].T ** 2 + w[:, -1] ** 2), w.shape[1]
    if case.option("activation") != "identity":
        return {"before": Rounding(sums, length), "y": Rounding(STEEPEST * sums, length) + Rounding(np.abs(out["y"]))}
    return {name: Rounding(sums, length) for name in ("before", "y")}


def forward(
    rows: int,
    inputs: int,
    outputs: int,
    activation: str = "identity",
    note: str = "",
    keep: bool | None = None,
    **makers,
) -> Case:
    keep = activation in KEEPS_INPUT if keep is None else keep
    return Case(
        "linear_forward", rows, {"o": outputs, "i": inputs}, note, inputs=makers, options={"activation": activation},
        rounding=forward_rounding, absent=() if keep else ("before",),
    )  # fmt: skip


def input_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    dy, w, activation = v["dy"], v["w"][:, :-1], case.option("activation")
    # What the products make, and what an error of a derivative does: those two are sums of larger terms.
    slope = STEEPEST if activation in KEEPS_INPUT else np.abs(derivative(case, v))
    return {"dx": Rounding(slope * root(dy**2 @ w**2), len(w)) + Rounding(slope * np.abs(dy @ w))}


def derivative(case: Case, v: Values) -> np.ndarray:
    """The reference's, from its own product with a weight of ones."""
    dx = np.empty_like(v["x"])
    one = np.hstack([np.ones((1, dx.shape[1])), np.zeros((1, 1))])
    linear_backward_input(dx, np.ones((len(dx), 1)), one, v["x"], v["before"], activation=case.option("activation"))
    return dx


def keep_output(case: Case, v: Values) -> None:
    v["x"] = activate(v["before"], case.option("activation"))


def input_objective(case: Case, v: Values) -> float:
    return float((v["dy"] * affine(activate(v["before"], case.option("activation")), v["w"])).sum())


def backward_input(
    rows: int, inputs: int, outputs: int, activation: str = "identity", note: str = "", differentiate=False, **makers
) -> Case:
    absent = {"identity": ("x", "before")}.get(activation, () if activation in KEEPS_INPUT else ("before",))
    return Case(
        "linear_backward_input", rows, {"o": outputs, "i": inputs}, note, inputs={"before": away_from_zero, **makers},
        absent=absent, options={"activation": activation}, prepare=keep_output, rounding=input_rounding,
        objective=input_objective if differentiate else None, gradients={"dx": "before"},
    )  # fmt: skip


def weight_scale(v: Values) -> np.ndarray:
    x = np.hstack([v["x"], np.ones((len(v["x"]), 1))])
    return root(v["dy"].T ** 2 @ x**2)


def weight_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"dw": Rounding(np.hypot(weight_scale(v), v.get("dw", 0.0)), len(v["x"]) + 1)}


def add_weight(case: Case, v: Values) -> None:
    v["w"] = np.ones((v["dy"].shape[1], v["x"].shape[1] + 1))


def weight_objective(case: Case, v: Values) -> float:
    return float((v["dy"] * affine(v["x"], v["w"])).sum())


def backward_weight(
    rows: int, inputs: int, outputs: int, note: str = "", accumulate=False, differentiate=False, **makers
) -> Case:
    return Case(
        "linear_backward_weight", rows, {"o": outputs, "i": inputs}, note, options={"accumulate": accumulate},
        inputs={"dw": normal, **makers} if accumulate else makers, rounding=weight_rounding, prepare=add_weight,
        objective=weight_objective if differentiate else None, gradients={"dw": "w"},
    )  # fmt: skip


def update_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    beta1, beta2, t = 0.9, 0.999, case.moment().step + 1
    x = np.hstack([v["x"], np.ones((len(v["x"]), 1))])
    gradient, scale, length = np.abs(v["dy"].T @ x), weight_scale(v), len(x)
    m, v2 = np.abs(beta1 * v["m"]) + (1 - beta1) * gradient, out["v"]
    from_gradient = {"m": (1 - beta1) * scale, "v": 2 * (1 - beta2) * gradient * scale}
    rate, by = v["learning_rate"][0] / (1 - beta1**t), np.sqrt(v2 / (1 - beta2**t)) + 1e-8
    step = rate * m / by
    return {
        "m": Rounding(m) + Rounding(from_gradient["m"], length),
        "v": Rounding(v2) + Rounding(from_gradient["v"], length),
        "w": Rounding(np.abs(v["w"]) + step)
        + Rounding(rate / by * from_gradient["m"] + step * from_gradient["v"] / v2, length),
    }


def update(rows: int, inputs: int, outputs: int, note: str = "", step: int = 7, **makers) -> Case:
    return Case(
        "linear_backward_update", rows, {"o": outputs, "i": inputs}, note, clock={"step": step},
        inputs={"w": normal, "m": normal, "v": positive, "learning_rate": constant(1e-2), **makers},
        rounding=update_rounding,
    )  # fmt: skip


CASES = [
    *(forward(*shape) for shape in [*SHAPES, SHARED]),
    *(forward(17, 33, 35, activation, keep=keep) for activation in ACTIVATIONS for keep in (True, False)),
    *(forward(5, 1, 37, activation, "sums to 10000", x=constant(1), w=wide(1e4)) for activation in ACTIVATIONS),
    *(forward(*shape, "relu", "sparse", x=sparse) for shape in SPARSE),
    forward(65, 70, 33, "tanh", "zero", x=constant(0)),
    forward(65, 70, 33, "gelu", "denormal", x=denormal, w=denormal),
    *(backward_input(*shape, differentiate=shape[0] < 8) for shape in [*SHAPES, SHARED]),
    *(backward_input(5, 17, 7, activation, differentiate=True) for activation in ACTIVATIONS),
    *(backward_input(17, 33, 35, activation) for activation in ACTIVATIONS),
    *(backward_input(5, 37, 3, activation, "sums to 10000", before=wide(1e4)) for activation in ACTIVATIONS),
    backward_input(65, 70, 33, "relu", "sparse", dy=sparse),
    backward_input(65, 70, 33, "tanh", "denormal", dy=denormal, w=denormal),
    *(backward_weight(*shape, differentiate=shape[0] < 8) for shape in [*SHAPES, SHARED]),
    *(backward_weight(*shape, "sparse", x=sparse) for shape in SPARSE),
    *(backward_weight(*shape, accumulate=True) for shape in [SHAPES[0], SHAPES[3], SHAPES[-1], SHARED]),
    backward_weight(130, 65, 33, "sparse", accumulate=True, x=sparse, dy=sparse),
    backward_weight(65, 70, 33, "zero", x=constant(0), dy=constant(0)),
    backward_weight(65, 70, 33, "denormal", x=denormal, dy=denormal),
    *(update(*shape) for shape in [*SHAPES, SHARED]),
    *(update(*shape, "sparse", x=sparse) for shape in SPARSE),
    update(17, 33, 16, "first step", step=0),
    update(65, 70, 33, "zero", x=constant(0), dy=constant(0)),
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


@smooth(CASES)
def test_gradient(case):
    assert_differentiates(case)


def test_tolerances_are_tight():
    assert_tight(CASES)


# ---- what the activations are ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("identity", lambda x: x),
        ("relu", lambda x: max(x, 0.0)),
        ("leaky_relu", lambda x: x if x > 0 else 0.01 * x),
        ("tanh", lambda x: (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x))),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("softplus", lambda x: math.log(1 + math.exp(x))),
        ("gelu", lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2))),
        ("silu", lambda x: x / (1 + math.exp(-x))),
    ],
)
def test_reference_activation_is_its_formula(activation, formula):
    x = np.array([[-5.0, -1.5, -0.3, 0.0, 0.2, 1.0, 6.0]])
    assert_close(activate(x, activation), np.array([[formula(v) for v in x[0]]]), Rounding(1 + np.abs(x)), "float64")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@each_dtype
@each_set
def test_nan_comes_through(activation, dtype, instruction_set):
    x = np.ones((3, 70), dtype)
    x[1] = 0
    x[1, 50] = np.nan
    case = forward(3, 70, 17, activation, "nan", x=given(x))
    y = execute(case, dtype, instruction_set)["y"]
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


# ---- the same bits -----------------------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(1).standard_normal((40, 71))
WEIGHT[::2, -1] = -0.0
ROWS = np.random.default_rng(2).standard_normal((300, 70))
FEW = sparse(np.random.default_rng(3), (300, 70))  # in which the kernels may skip zeros
MIXED = np.where(np.arange(300)[:, None] % 3 == 0, FEW, ROWS)


def outputs_of(x: np.ndarray, dtype: str, instruction_set: str) -> np.ndarray:
    case = forward(len(x), 70, 40, "tanh", x=given(x), w=given(WEIGHT))
    return execute(case, dtype, instruction_set)["y"]


def input_gradient_of(dy: np.ndarray, dtype: str, instruction_set: str) -> np.ndarray:
    w = np.hstack([WEIGHT[:, :70].T, np.zeros((70, 1))])
    case = backward_input(len(dy), 40, 70, dy=given(dy), w=given(w))
    return execute(case, dtype, instruction_set)["dx"]


@pytest.mark.parametrize("of", [outputs_of, input_gradient_of], ids=["forward", "input gradient"])
@pytest.mark.parametrize("rows", [ROWS, FEW, MIXED], ids=["dense", "sparse", "mixed"])
@each_dtype
@each_set
def test_a_row_does_not_depend_on_the_batch(of, rows, dtype, instruction_set):
    whole = of(rows, dtype, instruction_set)
    for count in (1, 2, 3, 5, 16, 63, 129):
        for begin in (0, 150):
            assert_same_bits(of(rows[begin : begin + count], dtype, instruction_set), whole[begin : begin + count])


@each_dtype
@each_set
def test_skipped_zeros_change_no_bit_of_the_outputs(dtype, instruction_set):
    # Rows without a zero keep their chunk dense, wherever in it they stand.
    alone = outputs_of(FEW[:64], dtype, instruction_set)
    for dense in (ROWS[:64], ROWS[:192]):
        after = outputs_of(np.vstack([dense, FEW[:64]]), dtype, instruction_set)[len(dense) :]
        between = outputs_of(np.stack([dense[:64], FEW[:64]], 1).reshape(128, 70), dtype, instruction_set)[1::2]
        assert_same_bits(after, alone)
        assert_same_bits(between, alone)


@pytest.mark.parametrize("accumulate", [False, True])
@each_dtype
@each_set
def test_skipped_zeros_change_no_bit_of_the_weight_gradient(accumulate, dtype, instruction_set):
    few, dense, dy = FEW[:130, :35], ROWS[:130, :35], ROWS[:130, 35:68]
    start = np.random.default_rng(4).standard_normal((33, 71))

    def gradient(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
        dw = start[:, : x.shape[1] + 1].copy()
        dw[:, columns] = start[:, : len(columns)]
        dw = {"dw": given(dw)} if accumulate else {}
        case = backward_weight(130, x.shape[1], 33, accumulate=accumulate, x=given(x), dy=given(dy), **dw)
        return execute(case, dtype, instruction_set)["dw"][:, columns]

    alone = gradient(few, np.arange(35))
    interleaved = np.stack([dense, few], 2).reshape(130, 70)
    assert_same_bits(gradient(interleaved, np.arange(1, 70, 2)), alone)
    assert_same_bits(gradient(np.hstack([dense, few]), np.arange(35, 70)), alone)


@pytest.mark.parametrize("x", [ROWS, FEW, MIXED], ids=["dense", "sparse", "mixed"])
@pytest.mark.parametrize("split", [1, 64, 100])
@each_dtype
@each_set
def test_accumulation_continues_the_chain(x, split, dtype, instruction_set):
    dy = ROWS[:, :33]
    whole = execute(backward_weight(300, 70, 33, x=given(x), dy=given(dy)), dtype, instruction_set)["dw"]
    first = execute(backward_weight(split, 70, 33, x=given(x[:split]), dy=given(dy[:split])), dtype, instruction_set)["dw"]
    rest = {"x": given(x[split:]), "dy": given(dy[split:]), "dw": given(first)}
    second = execute(backward_weight(300 - split, 70, 33, accumulate=True, **rest), dtype, instruction_set)["dw"]
    assert_same_bits(second, whole)


@pytest.mark.parametrize("make", [forward, backward_input, backward_weight, update])
@pytest.mark.parametrize("outputs", [17, 100])
@each_dtype
@each_set
def test_threads_share_the_work_and_nothing_else(make, outputs, dtype, instruction_set):
    case = make(600, 300, outputs)
    alone = execute(case, dtype, instruction_set)
    for threads in (2, 3, 2, 3):
        for name, got in execute(case, dtype, instruction_set, threads=threads).items():
            assert_same_bits(got, alone[name])


@pytest.mark.parametrize("shape", [(1, 7, 15), (16, 63, 7), (130, 65, 33), SHARED], ids=str)
@pytest.mark.parametrize("maker", [normal, sparse])
@each_dtype
@each_set
def test_fused_update_is_the_stored_gradient_and_adam(shape, maker, dtype, instruction_set):
    rows, inputs, outputs = shape
    fused = update(*shape, "sparse" if maker is sparse else "", x=maker)
    made = values_of(fused, dtype)
    stored = backward_weight(*shape, x=given(made["x"]), dy=given(made["dy"]))
    gradient = execute(stored, dtype, instruction_set)["dw"]
    held = {name: given(made[name]) for name in ("w", "m", "v", "learning_rate")}
    adam = Case(
        "adam_update", rows, {"o": outputs, "i": inputs}, inputs={**held, "g": given(gradient)}, absent=("squared",),
        clock=fused.clock,
    )  # fmt: skip
    want = execute(adam, dtype, instruction_set)
    for name, got in execute(fused, dtype, instruction_set).items():
        assert_same_bits(got, want[name])
