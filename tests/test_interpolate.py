"""Straight and spherical interpolation: exact at both ends, and finite for whatever codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cases import (
    SETS,
    Case,
    Values,
    assert_agrees,
    assert_differentiates,
    assert_tight,
    constant,
    denormal,
    each,
    each_dtype,
    each_set,
    execute,
    fractions,
    given,
    smooth,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits

from latentcore.ops.interpolate import STRAIGHT, lerp_forward, slerp_forward

SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 33), (130, 63)]
FORWARD = {"lerp": lerp_forward, "slerp": slerp_forward}


def norm(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=1, keepdims=True)


def weights(case: Case, v: Values) -> tuple[np.ndarray, ...]:
    """The weights of a and of b, their slopes by the angle, its sine; slopes 0 and sine 1 on a straight line."""
    ends = np.stack([1 - v["t"], v["t"]])[:, :, None]
    none = np.zeros_like(ends)
    if case.op.startswith("lerp"):
        return *ends, *none, 1 + none[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        u, w = v["a"] / norm(v["a"]), v["b"] / norm(v["b"])
        angle = 2 * np.arctan2(norm(u - w), norm(u + w))
        sine = np.sin(angle)
        bent = sine >= STRAIGHT
        by = np.where(bent, np.sin(ends * angle) / sine, ends)
        slope = np.where(bent, (np.abs(ends * np.cos(ends * angle)) + np.abs(by * np.cos(angle))) / sine, 0)
    return *by, *slope, np.where(bent, sine, 1)


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    # The angle errs by parts of a radian in float64, its sine may be small.
    wa, wb, slope_a, slope_b, _ = weights(case, v)
    turned = np.abs(slope_a * v["a"]) + np.abs(slope_b * v["b"])
    return {"y": Rounding(np.hypot(wa * v["a"], wb * v["b"])) + Rounding(turned, dtype="float64")}


def backward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    wa, wb, slope_a, slope_b, sine = weights(case, v)
    along = (np.abs(v["dy"] * v["a"]) * slope_a + np.abs(v["dy"] * v["b"]) * slope_b).sum(1, keepdims=True) / sine
    rounding = {}
    for name, weight, slope, end in (("da", wa, slope_a, v["a"]), ("db", wb, slope_b, v["b"])):
        length = np.where(norm(end) > 0, norm(end), 1)
        inner = np.abs(slope * v["dy"]) + along / (length * sine)
        rounding[name] = Rounding(np.abs(weight * v["dy"]) + np.abs(out[name])) + Rounding(inner, dtype="float64")
    return rounding


def objective(case: Case, v: Values) -> float:
    y = np.empty_like(v["a"])
    FORWARD[case.op.split("_")[0]](y, v["a"], v["b"], v["t"])
    return float((v["dy"] * y).sum())


def interpolate(kind: str, direction: str, rows: int, latent: int, note: str = "", prepare=None, **makers) -> Case:
    backward = direction == "backward"
    return Case(
        f"{kind}_{direction}", rows, {"l": latent}, note, inputs={"t": fractions, **makers},
        prepare=prepare, rounding=backward_rounding if backward else forward_rounding,
        objective=objective if backward and not note and latent > 1 and rows <= 16 else None,
        gradients={"da": "a", "db": "b"},
    )  # fmt: skip


def beside(sign: float, angle: float) -> Callable[[Case, Values], None]:
    """Moves b to about that angle from a, or from its opposite."""

    def move(case: Case, v: Values) -> None:
        v["b"] = 2 * sign * v["a"] + 2 * angle * v["b"]

    return move


def steps(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(0, 1, shape[0])


def beyond(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-0.5, 1.5, shape)


CASES = [
    interpolate(kind, direction, *shape, note, **makers)
    for kind in ("lerp", "slerp")
    for direction in ("forward", "backward")
    for shape, note, makers in [
        *((shape, "", {}) for shape in SHAPES),
        ((9, 17), "a path", {"t": steps}),
        ((7, 17), "beyond the ends", {"t": beyond}),
        ((7, 17), "wide", {"a": wide(1e4), "b": wide(1e4)}),
        ((7, 17), "from zero", {"a": constant(0)}),
        *(
            ((17, 33), f"{angle} from {name}", {"prepare": beside(sign, angle)})
            for angle in (0.1, 0.01, 0.001, STRAIGHT / 2)
            for name, sign in (("parallel", 1), ("opposite", -1))
        ),
        ((7, 17), "denormal", {"a": denormal, "b": denormal}),
    ]
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


def run(kind: str, a: np.ndarray, b: np.ndarray, t: np.ndarray, dtype: str, instruction_set: str | None) -> np.ndarray:
    case = interpolate(kind, "forward", *a.shape, "given", a=given(a), b=given(b), t=given(t))
    return execute(case, dtype, instruction_set)["y"]


A, B = np.random.default_rng(0).standard_normal((2, 5, 17))
UNIT = A / norm(A)
SIDE = B - UNIT * (UNIT * B).sum(1, keepdims=True)
SIDE /= norm(SIDE)
PAIRS = {
    "any": (A, B),
    "equal": (A, A),
    "parallel": (A, 3 * A),
    "opposite": (A, -A),
    "opposite, longer": (A, -1e3 * A),
    "zero": (A, 0 * A),
    "both zero": (0 * A, 0 * A),
    "almost parallel": (A, A * (1 + 1e-7 * B)),
    "almost opposite": (A, -A * (1 + 1e-7 * B)),
    "huge": (1e30 * A, 1e30 * B),
    "tiny": (1e-30 * A, 1e-30 * B),
    "long and short": (1e15 * A, 1e-15 * B),
    **{
        f"{place} {times} of the threshold": (
            UNIT,
            sign * UNIT * np.sqrt(1 - (times * STRAIGHT) ** 2) + times * STRAIGHT * SIDE,
        )
        for place, sign in (("parallel within", 1), ("opposite within", -1))
        for times in (0.5, 0.999, 1.001, 2)
    },
}


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_ends_are_exact_and_all_between_is_finite(kind, pair, dtype, instruction_set):
    a, b = (end.astype(dtype) for end in pair)
    exact = "float64" if instruction_set is None else dtype
    for t, end in ((0.0, a), (1.0, b)):
        got = run(kind, a, b, np.full(5, t), dtype, instruction_set)
        assert_same_bits(got + 0.0, end.astype(exact) + 0.0)  # a zero end may lose its sign
    y = run(kind, np.repeat(a, 9, 0), np.repeat(b, 9, 0), np.tile(np.linspace(0, 1, 9), 5), dtype, instruction_set)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_gradients_are_finite(kind, pair, dtype, instruction_set):
    ends = {name: given(end) for name, end in zip("ab", pair)}
    case = interpolate(kind, "backward", 5, 17, "finite", **ends, t=given(np.array([0, 0.2, 0.5, 0.9, 1])))
    for gradient in execute(case, dtype, instruction_set).values():
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_slerp_turns_at_an_even_pace_on_the_sphere(instruction_set, dtype):
    a, b = np.eye(3)[:1], np.array([[-0.5, np.sqrt(0.75), 0]])  # 120 degrees apart
    t = np.linspace(0, 1, 13)
    y = run("slerp", np.repeat(a, 13, 0), np.repeat(b, 13, 0), t, dtype, instruction_set)
    angle = t * 2 * np.pi / 3
    assert_close(y, np.stack([np.cos(angle), np.sin(angle), 0 * t], 1), Rounding(1.0), dtype)


@pytest.mark.parametrize(
    ("a", "b"),
    [*(PAIRS[name] for name in ("equal", "parallel", "opposite", "zero")), (1e200 * A, B), (A, 1e200 * B)],
    ids=["equal", "parallel", "opposite", "zero", "length of a overflows", "length of b overflows"],
)
@pytest.mark.parametrize("instruction_set", [None, *SETS])
def test_slerp_without_an_angle_is_straight(a, b, instruction_set):
    t = np.array([0, 0.25, 0.5, 0.75, 1])
    got, want = (run(kind, a, b, t, "float64", instruction_set) for kind in ("slerp", "lerp"))
    assert_same_bits(got, want)
