"""`pytest bench`: what the latency section adds: timings in groups, flushed, beside a busy thread, and without Python."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from . import native
from .cases import Inputs
from .latency import INPUTS, ITEM, NAMES, Latency, latency_cases
from .latency_report import OURS_C, details, tables, tail
from .network import TINY, VAE, activations
from .peers import load
from .rounds import Timing
from .sampling import Sampling, sample

SINGLE = [case for case in latency_cases() if case.batch == 1 and case.state == "warm"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.write(Path(tmp_path_factory.mktemp("inputs")))


@pytest.mark.parametrize("weights", ITEM)
@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_single_calls(benchmark, inputs: Inputs, case: Latency, weights: str) -> None:
    from .peers.engine import Contestant

    calls, evidence = case.prepare(Contestant(1, weights), case.load(inputs))
    assert case.verdicts(inputs, {"latentcore": evidence}) == {}
    benchmark.group = str(case)
    benchmark(calls[0])


@pytest.mark.parametrize(
    "order",
    [
        Sampling(50),
        Sampling(50, repeat=7),
        Sampling(3, flush=True),
        Sampling(50, busy=True),
    ],
    ids=["single", "group", "flushed", "busy"],
)
def test_calls_take_turns(order: Sampling) -> None:
    made: list[int] = []
    reply = sample([lambda i=i: made.append(i) for i in range(3)], order)
    warm = order.calls // 10 or 1
    first, kept = made[: warm * order.repeat], made[warm * order.repeat :]
    for part in (first, kept):
        starts = part[:: order.repeat]
        assert starts == [k % 3 for k in range(len(starts))]
    assert len(kept) == order.calls * order.repeat
    assert reply["times"].shape == (order.calls,)
    assert reply["times"].dtype == np.float32
    assert (reply["times"] >= 0).all()


def test_time_ends_a_sample() -> None:
    reply = sample([lambda: time.sleep(0.01)], Sampling(1000, seconds=0.05, warm=False))
    assert 1 <= len(reply["times"]) <= 6
    assert reply["times"].min() > 0.009


@pytest.mark.parametrize("weights", ITEM)
def test_rounded_weights_pass_and_wrong_ones_do_not(inputs: Inputs, weights: str) -> None:
    case = Latency("decode", "codes", 16)
    parameters, given = case.load(inputs)
    layers = VAE.layers(parameters, "decode")
    outputs = np.stack([activations(layers, x)[-1] for x in given]).astype(np.float32)
    assert outputs.shape == (INPUTS[16], 16, 784)
    spoiled = outputs.copy()
    spoiled[1, 2, 3] += np.float32(0.05)
    evidence = {"right": (weights, outputs), "wrong": (weights, spoiled), "cut": (weights, outputs[:, 1:])}
    assert set(case.verdicts(inputs, evidence)) == {"wrong", "cut"}


@pytest.fixture(scope="module")
def program() -> None:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake or c++ is missing")
    native.build()


@pytest.mark.parametrize("name", [*OURS_C.values(), "ONNX Runtime C"])
def test_a_process_without_python_gives_the_same(program: None, inputs: Inputs, name: str) -> None:
    if "ONNX" in name:
        pytest.importorskip("onnxruntime")
    case = Latency("reconstruct", "mnist", 16)
    running, evidence = case.prepare(load(name, 1), case.load(inputs))
    assert case.verdicts(inputs, {name: evidence}) == {}
    for order in (Sampling(20), Sampling(20, repeat=3), Sampling(2, flush=True)):
        times = running.sample(order)["times"]
        assert times.shape == (order.calls,)
        assert (times > 0).all()


def test_the_program_says_why_it_ends(program: None, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"no model")
    command = native.command(
        "latentcore", str(tmp_path / "model"), "decode", "float32", 1, np.zeros((1, 1, 20), np.float32), 784
    )
    with pytest.raises(RuntimeError, match="header"):
        native.Program(command, (1, 1, 784))


def test_tables(inputs: Inputs) -> None:
    """A row without peers, one with all of a kind, and floors that shrink with the weights."""
    levels = [{"name": "L1", "capacity": 48 << 10, "gbps": 400.0}, {"name": "DRAM", "capacity": 2**40, "gbps": 40.0}]
    limits = {"fma_gflops": 1e6, "levels": levels}
    case = Latency("decode", "codes", 1, TINY)
    warm, cold = details(case, limits, inputs), details(Latency("decode", "codes", 1, TINY, "flushed"), limits, inputs)
    assert warm["floors"]["float32"] > warm["floors"]["float16"] > warm["floors"]["int8"]
    assert cold["floors"]["float32"] == pytest.approx(10 * warm["floors"]["float32"])
    timing = Timing([np.full(20_000, 2e-6)], [np.full(10, 1e-6)])
    entry = {"median": timing.median, "p99": timing.p99, "calls": 20_000, **tail(timing)}
    record = {"task": "decode", "data": "codes", "batch": 1, "threads": 1, "refused": {"JAX": "wrong"}, **warm}
    text = tables([{**record, "contestants": {"latentcore": entry, "NumPy": entry}}, {**record, "contestants": {}}])
    assert "NumPy 1 µs | **1.00**" in text
    assert "1 / 2 / 2 / 2 (20000 calls)" in text
    assert "JAX is not timed in decode, codes, batch 1: wrong." in text
    assert NAMES[TINY] in text
