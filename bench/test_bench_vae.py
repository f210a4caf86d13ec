"""`pytest bench`: one row a group, one thread, latentcore beside eager PyTorch and NumPy, each checked first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .cases import Case, Inputs, cases
from .check import inference_fault, training_fault
from .network import VAE
from .peers import Peer, load

TRAINING = [case for case in cases() if case.task == "train step" and case.data == "mnist"]
INFERENCE = [case for case in cases() if not case.trains and case.data != "dense"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.write(Path(tmp_path_factory.mktemp("inputs")))


@pytest.fixture(scope="module")
def contestant(request: pytest.FixtureRequest) -> tuple[str, Peer]:
    if request.param == "torch":
        pytest.importorskip("torch")
    return request.param, load(request.param, 1)


@pytest.mark.parametrize("contestant", ["latentcore", "torch", "NumPy"], indirect=True)
@pytest.mark.parametrize("case", INFERENCE, ids=str)
def test_inference(benchmark, contestant: tuple[str, Peer], inputs: Inputs, case: Case) -> None:
    _race(benchmark, *contestant, inputs, case)


@pytest.mark.parametrize("contestant", ["latentcore", "torch"], indirect=True)
@pytest.mark.parametrize("case", TRAINING, ids=str)
def test_training(benchmark, contestant: tuple[str, Peer], inputs: Inputs, case: Case) -> None:
    _race(benchmark, *contestant, inputs, case)


def _race(benchmark, name: str, peer: Peer, inputs: Inputs, case: Case) -> None:
    benchmark.group = str(case) + (f", {case.steps} steps" if case.steps > 1 else "")
    benchmark.extra_info["contestant"] = name
    call, evidence = case.prepare(peer, case.load(inputs))
    assert case.verdicts(inputs, {name: evidence}) == {}
    benchmark(call)


@pytest.mark.parametrize("spoil", [np.nan, np.inf, 0.01])
def test_spoiled_output_is_refused(spoil: float) -> None:
    truth = np.random.default_rng(3).standard_normal((5, VAE.latent))
    assert inference_fault(truth.astype(np.float32), truth, VAE.features) is None
    output = truth.astype(np.float32)
    output[3, 7] += np.float32(spoil)
    assert inference_fault(output, truth, VAE.features) is not None
    assert inference_fault(output[:4], truth, VAE.features) is not None


@pytest.mark.parametrize(
    "losses", [[544.0, np.nan], [544.0, 545.0], [530.0, 250.0], [544.0, 300.0]], ids=["nan", "rises", "start", "end"]
)
def test_spoiled_training_is_refused(losses: list[float]) -> None:
    assert training_fault([544.0, 250.0], 543.0, 251.0) is None
    assert training_fault(losses, 543.0, 251.0) is not None
