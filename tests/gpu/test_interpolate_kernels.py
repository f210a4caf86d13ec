"""The kernels of straight and spherical interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, each, given
from kernels import assert_agrees, execute
from numerics import assert_same_bits
from test_interpolate import FORWARD, PAIRS, beside, interpolate, steps

CASES = [
    interpolate(kind, direction, *shape, note, **makers)
    for kind in FORWARD
    for direction in ("forward", "backward")
    for shape, note, makers in [
        ((3, 150), "", {}),
        ((17, 17), "a path", {"t": steps}),
        ((7, 17), "0.001 from opposite", {"prepare": beside(-1, 0.001)}),
    ]
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_are_exact_and_all_between_is_finite(kind, dtype, backend):
    a, b = (np.concatenate([pair[end] for pair in PAIRS.values()]).astype(dtype) for end in (0, 1))

    def run(t: float) -> np.ndarray:
        ends = {"a": given(a), "b": given(b), "t": given(np.full(len(a), t))}
        return execute(interpolate(kind, "forward", *a.shape, "given", **ends), dtype, backend)["y"]

    for t, end in ((0.0, a), (1.0, b)):
        assert_same_bits(run(t) + 0.0, end + 0.0)  # a zero end may lose its sign
    assert np.isfinite(run(0.3)).all()


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite(kind, dtype, backend):
    ends = {name: given(np.concatenate([pair[i] for pair in PAIRS.values()])) for i, name in enumerate("ab")}
    rows = 5 * len(PAIRS)
    case = interpolate(kind, "backward", rows, 17, "finite", **ends, t=given(np.linspace(0, 1, rows)))
    for gradient in execute(case, dtype, backend).values():
        assert np.isfinite(gradient).all()
