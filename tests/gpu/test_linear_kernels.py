"""The kernels of linear layers and of Adam."""

from __future__ import annotations

import pytest
import test_adam
import test_linear
from cases import DTYPES, each
from kernels import assert_agrees

CASES = [
    test_linear.forward(17, 70, 40, "gelu"),
    test_linear.forward(33, 64, 32, "relu", keep=True),
    test_linear.forward(1, 5, 3),
    test_linear.backward_input(17, 40, 70, "silu"),
    test_linear.backward_input(3, 7, 5),
    *test_adam.CASES[:3],
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)
