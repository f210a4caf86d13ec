"""The latent layer: it is its parts, its noise is a function of its counter, and backward draws what forward drew."""

from __future__ import annotations

import numpy as np
import pytest
from cases import (
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
    given,
    positive,
    smooth,
    values_of,
    wide,
)
from numerics import Rounding, assert_close, assert_same_bits, sum_in_runs

from latentcore.ops.kl import kl_backward, kl_forward
from latentcore.ops.latent import latent_backward, latent_forward
from latentcore.ops.random import philox_normal
from latentcore.ops.reparameterize import reparameterize_backward, reparameterize_forward
from latentcore.ops.signature import Clock

SEED = 0x1234_5678_9ABC_DEF0
CLOCK = {"seed": SEED, "step": 9}
BETA = 0.7
SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (33, 20), (63, 33), (130, 63)]


def rows_anywhere(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 2**32, shape)


def noise_of(case: Case, v: Values) -> np.ndarray:
    if case.has("noise"):
        return v["noise"]
    clock, samples, latent = case.moment(), case.option("samples"), int(case.sizes["l"])
    row = v["row"] if case.has("row") else np.zeros(case.rows)
    drawn = philox_normal(SEED, row, samples * latent, clock.step, case.option("stream"), clock.sample * latent)
    return drawn.reshape(-1, latent)


def parts(case: Case, v: Values) -> tuple[np.ndarray, ...]:
    """The size of mu, the clamped logvar, the deviation and the size of the noise of each sample."""
    mu, logvar = (np.repeat(half, case.option("samples"), 0) for half in np.split(v["h"], 2, 1))
    logvar = np.clip(logvar, -30, 20)
    return np.abs(mu), logvar, np.exp(logvar / 2), np.abs(noise_of(case, v))


def kl_terms(case: Case, v: Values) -> np.ndarray:
    mu, logvar = np.split(v["h"], 2, 1)
    logvar = np.clip(logvar, -30, 20)
    return 0.5 * (mu * mu + np.abs(np.expm1(logvar)) + np.abs(logvar))


def forward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    mu, logvar, deviation, noise = parts(case, v)
    kl = kl_terms(case, v)
    reach = np.hypot(mu, deviation * noise)
    ratio = noise**2 + np.abs(out["z"]) * reach + np.abs(logvar)
    return {
        "z": Rounding(reach),
        "kl_dim": sum_in_runs(kl / case.rows, 1, axis=0),
        "kl": sum_in_runs(kl, 1),
        "log_ratio": sum_in_runs(ratio, 1),
    }


def forward(rows: int, latent: int, note: str = "", drawn=True, absent=(), samples=1, sample=0, **makers) -> Case:
    return Case(
        "latent_forward", rows, {"l": latent}, f"{note} from {sample}".strip() if sample else note,
        inputs={"row": rows_anywhere, **makers}, absent=(*absent, *(["noise"] if drawn else ["row"])),
        options={"samples": samples, "stream": 1}, clock={**CLOCK, "sample": sample}, rounding=forward_rounding,
    )  # fmt: skip


def backward_rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    mu, _, deviation, noise = parts(case, v)
    weight = np.abs(BETA * v["weight"])[:, None] if case.has("weight") else np.zeros((len(mu), 1))
    gradient = np.hypot(v["dz"], weight * np.hypot(mu, deviation * noise))
    to_mu, to_logvar = gradient**2, (0.5 * gradient * deviation * noise) ** 2 + (weight / 2) ** 2
    sums = np.concatenate([t.reshape(case.rows, case.option("samples"), -1).sum(1) for t in (to_mu, to_logvar)], 1)
    if not case.has("weight"):
        m, logvar = np.split(v["h"], 2, 1)
        sums += (BETA / case.rows * np.hstack([m, np.expm1(np.clip(logvar, -30, 20)) / 2])) ** 2
    return {"dh": Rounding(np.sqrt(sums), case.option("samples") + 1)}


def objective(case: Case, v: Values) -> float:
    """sum dz z + beta KL: the mean over the rows in each charged dimension, or by weight in each sample."""
    samples, latent = case.option("samples"), int(case.sizes["l"])
    z, kl_dim, log_ratio = np.empty_like(v["dz"]), np.empty(latent), np.empty(len(v["dz"]))
    latent_forward(
        z, kl_dim, None, log_ratio, v["h"], noise_of(case, v), None, clock=case.moment(), samples=samples, stream=1
    )
    if case.has("weight"):
        return float((v["dz"] * z).sum() - BETA * v["weight"] @ log_ratio)
    charged = v["kl_dim"] >= case.option("free_bits") if case.has("kl_dim") else np.ones(latent, bool)
    return float((v["dz"] * z).sum() + BETA * kl_dim[charged].sum())


def backward(
    rows: int, latent: int, note: str = "", drawn=True, weighted=False, samples=1, free_bits=0.0, sample=0, **makers
) -> Case:
    absent = ["noise" if drawn else "row", *([] if weighted else ["weight"]), *([] if free_bits else ["kl_dim"])]
    return Case(
        "latent_backward", rows, {"l": latent}, f"{note} from {sample}".strip() if sample else note,
        inputs={"row": rows_anywhere, "beta": constant(BETA), "weight": positive, "kl_dim": positive, **makers},
        absent=absent, clock={**CLOCK, "sample": sample},
        options={"samples": samples, "stream": 1, "free_bits": free_bits},
        rounding=backward_rounding, objective=None if note or rows > 16 else objective, gradients={"dh": "h"},
    )  # fmt: skip


CASES = [
    *(forward(*shape, drawn=drawn) for shape in SHAPES for drawn in (True, False)),
    *(forward(rows, 17, samples=5, drawn=drawn) for rows in (1, 7, 33) for drawn in (True, False)),
    forward(7, 17, samples=5, sample=3),
    forward(7, 17, absent=("row",)),
    *(forward(7, 17, absent=(name,)) for name in ("kl_dim", "kl", "log_ratio")),
    forward(7, 17, absent=("kl_dim", "kl", "log_ratio"), drawn=False),
    forward(33, 17, "wide", h=wide(1e4)),
    forward(33, 17, "edges", h=lambda rng, shape: rng.choice([-30.0, 20.0, -30.5, 20.5], shape)),
    forward(33, 17, "denormal", h=denormal, noise=denormal, drawn=False),
    *(
        backward(*shape, drawn=drawn, weighted=weighted)
        for shape in SHAPES
        for drawn in (True, False)
        for weighted in (True, False)
    ),
    *(backward(rows, 17, samples=5, weighted=weighted) for rows in (1, 7, 33) for weighted in (True, False)),
    backward(7, 17, samples=5, sample=3, weighted=True),
    *(backward(7, 17, free_bits=0.5, samples=samples) for samples in (1, 5)),
    *(backward(33, 17, "wide", h=wide(1e4), weighted=weighted) for weighted in (True, False)),
    backward(33, 17, "wide gradient", h=wide(25), dz=wide(1e4)),
    backward(33, 17, "edges", h=lambda rng, shape: rng.choice([-30.0, 20.0, -30.5, 20.5], shape)),
    backward(33, 17, "denormal", h=denormal, dz=denormal),
    *(
        Case("posterior_forward", *shape, "wide", inputs={"h": wide(1e4)}, absent=absent)
        for shape in [(1, {"l": 1}), (7, {"l": 17}), (130, {"l": 33})]
        for absent in ((), ("mu",), ("logvar",))
    ),
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


# ---- its parts ---------------------------------------------------------------------------------------------------


def test_reference_is_the_composition_of_its_parts():
    rng = np.random.default_rng(0)
    mu, logvar, noise, dz = rng.standard_normal((4, 6, 5))
    h, beta = np.hstack([mu, logvar]), np.array([BETA])
    z, kl_dim, kl, log_ratio, dh = np.empty((6, 5)), np.empty(5), np.empty(6), np.empty(6), np.empty((6, 10))
    latent_forward(z, kl_dim, kl, log_ratio, h, noise, None, clock=Clock(), samples=1, stream=0)
    latent_backward(dh, dz, h, beta, None, None, noise, None, clock=Clock(), samples=1, stream=0, free_bits=0.0)

    want_z, want_kl = np.empty((6, 5)), np.empty(6)
    reparameterize_forward(want_z, mu, logvar, noise)
    kl_forward(want_kl, mu, logvar)
    through_z, through_kl = np.empty((2, 6, 5)), np.empty((2, 6, 5))
    reparameterize_backward(*through_z, dz, logvar, noise)
    kl_backward(*through_kl, np.full(6, BETA / 6), mu, logvar)

    def log_normal(x, mean, log_variance):
        return -0.5 * (np.log(2 * np.pi) + log_variance + (x - mean) ** 2 / np.exp(log_variance)).sum(1)

    assert_same_bits(z, want_z)
    assert_close(kl, want_kl, Rounding(10.0), "float64")
    assert_close(kl_dim.sum(keepdims=True), want_kl.mean(keepdims=True), Rounding(10.0), "float64")
    assert_close(log_ratio, log_normal(z, 0, np.zeros(5)) - log_normal(z, mu, logvar), Rounding(30.0), "float64")
    assert_close(dh, np.hstack([*(through_z + through_kl)]), Rounding(3.0), "float64")


# ---- its noise ---------------------------------------------------------------------------------------------------


def noise_drawn(rows: int, latent: int, dtype: str, instruction_set: str | None, **how) -> np.ndarray:
    """What the layer draws: a standard normal is its own noise."""
    case = forward(rows, latent, "standard", h=constant(0), **how)
    return execute(case, dtype, instruction_set)["z"]


@each_dtype
@each_set
def test_noise_is_the_normals_of_its_row(dtype, instruction_set):
    row = np.array([7, 0, 2**32 - 1, 7])
    got = noise_drawn(4, 17, dtype, instruction_set, row=given(row))
    want = philox_normal(SEED, row, 17, CLOCK["step"], 1)
    assert_close(got, want, Rounding(np.abs(want)), dtype)
    assert_same_bits(got[3], got[0])


@each_dtype
@each_set
def test_without_rows_all_draw_alike(dtype, instruction_set):
    got = noise_drawn(20, 17, dtype, instruction_set, absent=("row",))
    assert_same_bits(got, np.repeat(noise_drawn(1, 17, dtype, instruction_set, row=constant(0)), 20, 0))


@pytest.mark.parametrize("latent", [1, 3, 17])
@each_dtype
@each_set
def test_samples_drawn_in_pieces_are_the_same(latent, dtype, instruction_set):
    row = given(np.arange(5))
    whole = noise_drawn(5, latent, dtype, instruction_set, row=row, samples=7).reshape(5, 7, latent)
    for first, samples in ((0, 1), (1, 3), (3, 4), (6, 1)):
        piece = noise_drawn(5, latent, dtype, instruction_set, row=row, samples=samples, sample=first)
        assert_same_bits(piece.reshape(5, samples, latent), whole[:, first : first + samples])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "latent", "samples"), [(1, 1, 1), (33, 17, 1), (33, 17, 5), (130, 20, 1)])
@each_dtype
@each_set
def test_backward_draws_what_forward_drew(weighted, rows, latent, samples, dtype, instruction_set):
    drawn = backward(rows, latent, "redrawn", weighted=weighted, samples=samples, sample=2)
    values = values_of(drawn, dtype)
    noise = noise_drawn(rows, latent, dtype, instruction_set, row=given(values["row"]), samples=samples, sample=2)
    held = {name: given(values[name]) for name in ("h", "dz", "weight")}
    told = backward(rows, latent, "told", drawn=False, weighted=weighted, samples=samples, noise=given(noise), **held)
    assert_same_bits(execute(drawn, dtype, instruction_set)["dh"], execute(told, dtype, instruction_set)["dh"])


@each_dtype
@each_set
def test_a_row_does_not_depend_on_the_batch(dtype, instruction_set):
    rng = np.random.default_rng(0)
    h, row = rng.standard_normal((130, 34)), rng.integers(0, 60_000, 130)

    def run(begin: int, end: int) -> Values:
        return execute(forward(end - begin, 17, h=given(h[begin:end]), row=given(row[begin:end])), dtype, instruction_set)

    whole = run(0, 130)
    for begin, end in ((0, 1), (5, 8), (17, 33), (1, 130)):
        part = run(begin, end)
        for name in ("z", "kl", "log_ratio"):
            assert_same_bits(part[name], whole[name][begin:end])


# ---- free bits and NaN -------------------------------------------------------------------------------------------


@each_dtype
@each_set
def test_free_bits_spare_a_dimension_below_them(dtype, instruction_set):
    kl_dim = given(np.array([0.5, 0.499, 0.0, 2.0]))
    case = backward(9, 4, "spared", free_bits=0.5, kl_dim=kl_dim, dz=constant(0))
    dh = execute(case, dtype, instruction_set)["dh"]
    assert ((dh != 0).all(0) == [True, False, False, True] * 2).all()
    assert ((dh == 0).all(0) == [False, True, True, False] * 2).all()


@pytest.mark.parametrize("place", [16, 33], ids=["mu", "logvar"])
@each_dtype
@each_set
def test_nan_comes_through(place, dtype, instruction_set):
    h = np.zeros((3, 34))
    h[1, place] = np.nan
    out = execute(forward(3, 17, "nan", h=given(h)), dtype, instruction_set)
    assert np.isnan(out["z"]).sum() == 1
    assert np.isnan(out["kl_dim"]).sum() == 1
    for name in ("kl", "log_ratio"):
        assert np.isnan(out[name]).tolist() == [False, True, False]
