"""The kernels of the latent layer and of its parts."""

from __future__ import annotations

import numpy as np
import pytest
import test_kl
import test_latent
import test_reparameterize
from cases import DTYPES, Case, each, given, wide
from kernels import assert_agrees, execute

SHAPE = (17, 130)  # two tiles of columns, and rows that fill no tile
CASES = [
    test_latent.forward(33, 20),
    test_latent.forward(3, 17, samples=5, sample=3),
    test_latent.forward(5, 130, drawn=False, absent=("kl_dim", "log_ratio"), h=wide(1e4)),
    test_latent.backward(33, 20, free_bits=0.5),
    test_latent.backward(3, 17, samples=11, sample=3, weighted=True),
    test_latent.backward(5, 130, drawn=False, h=wide(25)),
    Case("posterior_forward", 17, {"l": 130}, "wide", inputs={"h": wide(1e4)}),
    Case("posterior_forward", 1, {"l": 1}, "wide", inputs={"h": wide(1e4)}, absent=("logvar",)),
    *(
        make(*shape, **makers)
        for make in (
            test_kl.forward, test_kl.backward, test_reparameterize.forward, test_reparameterize.backward
        )
        for shape, makers in [(SHAPE, {}), ((3, 7), {"logvar": wide(1e4)})]
    ),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@each(CASES)
def test_agrees(case, dtype, backend):
    assert_agrees(case, dtype, backend)


def test_backward_draws_what_forward_drew(backend):
    row, h = given(np.array([7, 0, 2**32 - 1])), given(np.zeros((3, 34)))
    noise = execute(test_latent.forward(3, 17, h=h, row=row, samples=5, sample=3), "float64", backend)["z"]
    dh = execute(
        test_latent.backward(3, 17, h=h, row=row, samples=5, sample=3, dz=given(np.ones_like(noise))), "float64", backend
    )["dh"]
    np.testing.assert_allclose(2 * dh[:, 17:], noise.reshape(3, 5, 17).sum(1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("place", [16, 33], ids=["mu", "logvar"])
def test_nan_comes_through(place, backend):
    h = np.zeros((3, 34))
    h[1, place] = np.nan
    out = execute(test_latent.forward(3, 17, "nan", h=given(h)), "float32", backend)
    assert np.isnan(out["z"]).sum() == 1
    assert np.isnan(out["kl_dim"]).sum() == 1
    for name in ("kl", "log_ratio"):
        assert np.isnan(out[name]).tolist() == [False, True, False]
