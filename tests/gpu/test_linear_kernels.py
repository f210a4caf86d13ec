"""The kernels of linear layers and of Adam."""

from __future__ import annotations

import numpy as np
import pytest
import test_adam
import test_linear
from cases import DTYPES, each, given
from kernels import assert_agrees, execute

from latentcore.ops.linear import ACTIVATIONS

CASES = [
    test_linear.forward(17, 70, 40, "gelu"),
    test_linear.forward(33, 64, 32, "relu", keep=True),
    test_linear.forward(1, 5, 3),
    test_linear.backward_input(17, 40, 70, "silu"),
    test_linear.backward_input(3, 7, 5),
    test_linear.backward_weight(33, 40, 70, accumulate=True),
    test_linear.backward_weight(3, 7, 5),
    test_linear.update(33, 40, 70),
    test_linear.update(3, 7, 5),
    *test_adam.CASES[:3],
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@each([make(5, 7, 3, name) for name in ACTIVATIONS for make in (test_linear.forward, test_linear.backward_input)])
def test_every_activation(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_comes_through(activation, dtype, backend):
    x = np.zeros((3, 7))
    x[1, 5] = np.nan
    y = execute(test_linear.forward(3, 7, 5, activation, "nan", x=given(x)), dtype, backend)["y"]
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()
