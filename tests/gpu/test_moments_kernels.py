"""The kernels of moments and of covariances."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, constant, each, given, sparse
from kernels import assert_agrees, execute
from numerics import assert_same_bits
from test_covariance import covariance
from test_moments import merged, moments, offset

CASES = [
    moments(300, 17),
    moments(257, 5, weighted=True),
    merged(130, 65, "offset", weighted=True, x=offset(1e6)),
    merged(40, 3, "into nothing", count=0.0, mean=constant(np.nan), gram=constant(np.nan)),
    merged(40, 3, "without weight", weighted=True, weight=constant(0)),
    moments(40, 3, "without weight", weighted=True, weight=constant(0)),
    covariance(3, 17, 300, "offset", x=offset(1e6)),
    covariance(1, 65, 40, "sparse", x=sparse),
    covariance(5, 3, 30),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("dtype", DTYPES)
@each([moments(30, 65, "symmetric"), covariance(1, 65, 30, "symmetric")])
def test_gram_matrices_are_symmetric(case, dtype, backend):
    gram = execute(case, dtype, backend)["gram"]
    assert_same_bits(gram, np.ascontiguousarray(np.swapaxes(gram, -1, -2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_group_without_rows_has_no_mean(dtype, backend):
    case = covariance(3, 5, 8, "empty", begin=given(np.array([0, 4, 8])), end=given(np.array([4, 4, 8])))
    got = execute(case, dtype, backend)
    assert np.isfinite(got["mean"][0]).all()
    assert np.isnan(got["mean"][1:]).all()
    assert not got["gram"][1:].any()


@pytest.mark.parametrize(("begin", "end"), [(3, 2), (0, 9), (9, 9), (0, 2**32 - 1)])
def test_a_group_outside_the_data_is_an_error(begin, end, backend):
    first, last = np.array([0, begin]), np.array([8, end])
    with pytest.raises(IndexError, match="row number"):
        execute(covariance(2, 3, 8, "outside", begin=given(first), end=given(last)), "float32", backend)
