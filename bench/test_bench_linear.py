"""`pytest bench`: SVD, eigh and PCA, one thread, latentcore beside NumPy and scikit-learn, each checked first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .cases import Inputs
from .linear import Components, Decomposition, linear_cases
from .peers import load

CASES = [case for case in linear_cases() if case.batch != 60000]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.write(Path(tmp_path_factory.mktemp("inputs")))


@pytest.mark.parametrize("name", ["latentcore", "NumPy"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_linear(benchmark, name: str, case: Decomposition | Components, inputs: Inputs) -> None:
    benchmark.group = str(case)
    benchmark.extra_info["contestant"] = name
    call, evidence = case.prepare(load(name, 1), case.load(inputs))
    assert case.verdicts(inputs, {name: evidence}) == {}
    benchmark(call)


@pytest.mark.parametrize("spoil", [np.nan, 0.01])
@pytest.mark.parametrize("at", [0, 1, 2], ids=["u", "s", "vt"])
def test_spoiled_factors_are_refused(spoil: float, at: int) -> None:
    case = Decomposition("svd", 30, 7, 4)
    a = case.load()
    factors = [np.array(factor) for factor in np.linalg.svd(a, full_matrices=False)]
    assert case.fault(a, factors) is None
    factors[at][3, ..., 1] += spoil
    assert case.fault(a, factors) is not None


def test_spoiled_components_are_refused(inputs: Inputs) -> None:
    case = Components("batched pca fit", "50x8", 30)
    variances, components = load("NumPy", 1).pca_groups(case.load(inputs))()
    assert case.verdicts(inputs, {"NumPy": (variances, components)}) == {}
    assert "NumPy" in case.verdicts(inputs, {"NumPy": (variances * 1.01, components)})
    assert "NumPy" in case.verdicts(inputs, {"NumPy": (variances, components[:, :, ::-1])})
