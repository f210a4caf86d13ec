"""Philox: its published vectors, uniforms to the bit, normals to the unit in the last place, and their moments."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from cases import (
    DTYPES,
    SETS,
    Case,
    Values,
    assert_agrees,
    assert_tight,
    each,
    each_dtype,
    each_set,
    execute,
    truth,
)
from numerics import Rounding, assert_close, assert_same_bits, assert_ulps

from latentcore.ops.random import STREAMS, philox, philox_normal, philox_uniform

SEED = 0x1234_5678_9ABC_DEF0
SHAPES = [(1, 1), (3, 7), (7, 15), (15, 16), (16, 17), (17, 64), (33, 65), (130, 63), (2, 259)]
CLOCKS = [
    {"seed": 0},
    {"seed": 2**64 - 1, "step": 2**32 - 1, "offset": 2**32 - 8},
    {"seed": 2**32, "step": 1, "offset": 70_000},
]


def uniform(rows: int, width: int, stream: int = 3, note: str = "", **clock: int) -> Case:
    return Case("uniform_forward", rows, {"l": width}, note, options={"stream": stream}, clock={"seed": SEED, **clock})


def rounding(case: Case, v: Values, out: Values) -> dict[str, Rounding]:
    return {"z": Rounding(np.abs(out["z"]))}


def normal(rows: int, width: int, stream: int = 1, note: str = "", **clock: int) -> Case:
    return Case(
        "normal_forward", rows, {"l": width}, note, options={"stream": stream}, clock={"seed": SEED, **clock},
        rounding=rounding,
    )  # fmt: skip


CASES = [
    make(*shape, note=f"clock {i - len(SHAPES)}" if i >= len(SHAPES) else "", **clock)
    for make in (uniform, normal)
    for i, (shape, clock) in enumerate([*((shape, {}) for shape in SHAPES), *(((7, 17), clock) for clock in CLOCKS)])
]


@each(CASES)
@each_dtype
@each_set
def test_kernel(case, dtype, instruction_set):
    assert_agrees(case, dtype, instruction_set)


def test_tolerances_are_tight():
    assert_tight(CASES)


# Random123's kat_vectors: counter, key, result.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "want"), VECTORS, ids=["zeros", "ones", "pi"])
def test_reference_gives_the_published_words(counter, key, want):
    assert tuple(philox(key[0] | key[1] << 32, *(np.array(c) for c in counter)).ravel()) == want


@each_dtype
@each_set
def test_kernel_gives_the_published_words(dtype, instruction_set):
    u = execute(uniform(1, 4, stream=0, seed=0), dtype, instruction_set)["u"]
    assert (u[0] * 2**23 - 0.5).tolist() == [word >> 9 for word in VECTORS[0][2]]


@pytest.mark.parametrize("make", [uniform, normal])
@pytest.mark.parametrize("instruction_set", [None, *SETS])
@each_dtype
def test_a_number_is_a_function_of_its_counter(make, instruction_set, dtype):
    def draw(rows: int, width: int, **clock: int) -> np.ndarray:
        return next(iter(execute(make(rows, width, **clock), dtype, instruction_set).values()))

    whole = draw(40, 33)
    for row in (0, 1, 15, 39):
        assert_same_bits(draw(1, 33, offset=row), whole[row : row + 1])
    for width in (1, 2, 3, 4, 5, 31):
        assert_same_bits(draw(40, width), whole[:, :width])
    for other in ({"step": 1}, {"stream": 0}, {"seed": SEED + 1}, {"seed": SEED + 2**32}, {"offset": 40}):
        assert not (draw(40, 33, **other) == whole).any()


def test_streams_are_apart():
    assert len(set(STREAMS.values())) == len(STREAMS)


MANY = normal(1000, 1001, note="many")


@functools.cache
def million(dtype: str, instruction_set: str) -> np.ndarray:
    return execute(MANY, dtype, instruction_set)["z"]


def test_reference_normals_are_box_muller():
    u = philox_uniform(SEED, np.arange(3), 8, 5, 1)
    radius, angle = np.sqrt(-2 * np.log(u[:, ::2])), 2 * np.pi * u[:, 1::2]
    want = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(3, 8)
    assert_close(philox_normal(SEED, np.arange(3), 8, 5, 1), want, Rounding(np.repeat(radius, 2, 1)), "float64")
    assert_same_bits(philox_normal(SEED, np.arange(3), 5, 5, 1, first=3), philox_normal(SEED, np.arange(3), 8, 5, 1)[:, 3:])


@pytest.mark.parametrize(("dtype", "units"), [("float32", 4), ("float64", 6)])  # in float64 the reference rounds too
@each_set
def test_normals_are_the_references_to_4_units(dtype, units, instruction_set):
    assert_ulps(million(dtype, instruction_set), truth(MANY, dtype)["z"], units)


@each_dtype
@each_set
def test_normals_have_their_moments(dtype, instruction_set):
    z = million(dtype, instruction_set).ravel().astype(np.float64)
    deviations = {1: 1.0, 2: 2.0, 3: 15.0, 4: 96.0}  # the variances of the powers
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(deviations[power] / z.size)
    for apart in (1, 2, 3, 4, 1001):
        assert abs((z[apart:] * z[:-apart]).mean()) < 5 / math.sqrt(z.size)
    for limit in (0.5, 1, 2, 3, 4):
        share = math.erfc(limit / math.sqrt(2))
        assert abs((np.abs(z) > limit).mean() - share) < 5 * math.sqrt(share / z.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniforms_lie_inside_and_fill_the_interval(dtype):
    u = execute(uniform(1000, 1000), dtype, SETS[0])["u"].astype(np.float64).ravel()
    assert u.min() > 0
    assert u.max() < 1
    assert np.array_equal((u * 2**24) % 2, np.ones(u.size))  # halves between the 2^23 steps
    counts = np.histogram(u, 100, (0, 1))[0]
    assert np.abs(counts - 10_000).max() < 5 * math.sqrt(10_000)
