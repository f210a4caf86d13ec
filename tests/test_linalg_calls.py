"""lc.svd and lc.eigh beyond the kernels, in many calls, of many threads and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, each_dtype, each_set
from matrices import bits, solve

import latentcore as lc
from latentcore import _core, linalg
from latentcore.backends import batched

RNG = np.random.default_rng(0)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing bound by other tests, nothing left for them."""
    linalg._solver.cache_clear()
    batched._bound.clear()
    yield
    linalg._solver.cache_clear()
    batched._bound.clear()


# ---- beyond the kernels ----------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("decompose", [lc.svd, lc.eigh])
def test_beyond_the_limit_the_rules_are_the_same(decompose, dtype, monkeypatch, fresh):
    A = RNG.standard_normal((2, 3, 12, 12)).astype(dtype)
    want = decompose(A, backend="reference")
    values = decompose(A, **{"compute_uv" if decompose is lc.svd else "eigenvectors": False}, backend="reference")
    linalg._solver.cache_clear()
    monkeypatch.setattr(linalg, "LIMIT", 11)
    for got, expected in zip(decompose(A), want):
        assert got.dtype == dtype
        assert np.abs(got - expected).max() < 2000 * np.finfo(dtype).eps
    option = {"compute_uv" if decompose is lc.svd else "eigenvectors": False}
    assert np.abs(decompose(A, **option) - values).max() < 2000 * np.finfo(dtype).eps
    A[1, 2, 3, 1] = np.inf
    with pytest.raises(ValueError, match=r"got NaN or infinity in matrix \(1, 2\)"):
        decompose(A)
    for got in decompose(A, validate=False):
        assert np.isnan(got[1, 2]).all()
        assert np.isfinite(got[0]).all()
        assert np.isfinite(got[1, :2]).all()


def test_the_limit_is_of_the_shorter_side(monkeypatch, fresh):
    made = [type(linalg._solver("svd_forward", m, n, np.dtype("f4"), True, "cpu")) for m, n in
            [(linalg.LIMIT, 9999), (9999, linalg.LIMIT), (linalg.LIMIT + 1, linalg.LIMIT + 1)]]  # fmt: skip
    assert [kind is batched.Batched for kind in made] == [True, True, False]


# ---- many calls ------------------------------------------------------------------------------------------------------


@each_dtype
def test_any_number_of_threads_gives_the_same_bits(dtype, threads):
    for m, n, count in [(3, 3, 500), (20, 11, 90), (64, 64, 20), (130, 130, 5)]:
        A = RNG.standard_normal((count, m, n)).astype(dtype)
        want = solve("svd", A, _core.instruction_sets()[0])
        for number in (1, 2, 3, 5):
            threads(number)
            for got, expected in zip(lc.svd(A), want):
                assert got.tobytes() == expected.tobytes()


@each_set
@each_dtype
@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "values"])
@pytest.mark.parametrize(("m", "n"), [(200, 200), (700, 261), (230, 400), (640, 640)])
def test_a_large_matrix_has_the_same_bits_alone_and_in_company(m, n, vectors, dtype, instruction_set):
    """Alone, all threads work on it; in company, one."""
    rng = np.random.default_rng(0)
    for op, a in (("svd", rng.standard_normal((2, m, n))), ("eigh", rng.standard_normal((2, n, n)))):
        a = a.astype(dtype)
        want = bits(solve(op, a, instruction_set, vectors=vectors))
        for threads in (2, 3):
            assert bits(solve(op, a, instruction_set, vectors=vectors, threads=threads)) == want
            apart = [solve(op, a[i : i + 1], instruction_set, vectors=vectors, threads=threads) for i in range(2)]
            assert [b"".join(pair) for pair in zip(*map(bits, apart))] == want


@pytest.mark.parametrize("vectors", [True, False])
def test_slices_give_the_same_bits(vectors, monkeypatch, fresh):
    A = RNG.standard_normal((5, 67, 6, 4))
    want = lc.svd(A, compute_uv=vectors)
    linalg._solver.cache_clear()
    monkeypatch.setattr(batched, "_ROWS", 32)
    got = lc.svd(A, compute_uv=vectors)
    assert linalg._solver("svd_forward", 6, 4, A.dtype, vectors, "auto")._capacities[-1] == 32
    for x, y in zip(got, want) if vectors else [(got, want)]:
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def test_many_threads_may_call_at_once(threads, fresh):
    threads(2)
    rng = np.random.default_rng(1)
    shapes = [(40, 3, 3), (7, 20, 9), (1, 33, 33), (3, 5, 60), (300, 8, 8), (2, 100, 100)]
    inputs = [rng.standard_normal(shape).astype(DTYPES[i % 2]) for i, shape in enumerate(shapes)]
    want = [[x.tobytes() for x in lc.svd(A)] for A in inputs]

    def call(i: int) -> bool:
        return [x.tobytes() for x in lc.svd(inputs[i])] == want[i]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, rng.integers(0, len(shapes), 600).tolist()))


def test_a_long_call_lets_other_threads_run(fresh):
    A = RNG.standard_normal((400, 64, 64))
    lc.svd(A)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begin = time.perf_counter()
    lc.svd(A)
    end = time.perf_counter()
    done.set()
    ticker.join()
    assert sum(begin < t < end for t in ticks) > 3


def test_ctrl_c_is_heard_between_slices(monkeypatch, fresh):
    A = RNG.standard_normal((3200, 3, 3))
    want = lc.svd(A)
    monkeypatch.setattr(batched, "_ROWS", 32)
    linalg._solver.cache_clear()
    solver = linalg._solver("svd_forward", 3, 3, A.dtype, True, "auto")
    solver(A[:100])
    ready, runs = next(iter(solver._idle.values()))[0], []
    run = ready.run

    def interrupted(*arrays: Any) -> Any:
        runs.append(1)
        if len(runs) == 3:
            signal.raise_signal(signal.SIGINT)
        return run(*arrays)

    ready.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        lc.svd(A)
    assert len(runs) <= 3
    for got, expected in zip(lc.svd(A), want):
        assert got.tobytes() == expected.tobytes()


def test_few_bytes_wait_for_the_next_call(fresh):
    for n in range(1, 130):
        lc.svd(np.ones((40, n, n), np.float32))
        lc.eigh(np.ones((2, n, n)))
    waiting = [ready for ready in batched._bound if ready in ready.idle]
    assert waiting
    assert sum(ready.bytes for ready in waiting) <= batched._WAITING
    assert linalg._solver.cache_info().currsize <= 256


def test_a_plan_that_was_let_go_is_bound_anew(monkeypatch, fresh):
    monkeypatch.setattr(batched, "_WAITING", 1)
    A = RNG.standard_normal((9, 12, 7))
    want = lc.svd(A)
    for _ in range(3):
        for got, expected in zip(lc.svd(A), want):
            assert got.tobytes() == expected.tobytes()
    assert not batched._bound


GROWTH = """
import resource
import numpy as np
import latentcore as lc

rng = np.random.default_rng(0)
inputs = [rng.standard_normal(shape) for shape in [(1, 3, 3), (500, 8, 8), (50, 40, 20), (1, 120, 120), (1, 50, 300)]]

def calls(count):
    for _ in range(count):
        for A in inputs:
            lc.svd(A)
            lc.svd(A, compute_uv=False)
            lc.eigh(A[..., :3, :3])
            A[0, 0, 0] = np.nan
            try:
                lc.svd(A)
            except ValueError:
                A[0, 0, 0] = 1

calls(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls(40)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_repeated_calls_do_not_grow_memory():
    run = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4096


FORK = """
import os, signal, sys, threading
import numpy as np
import latentcore as lc

signal.alarm(60)
lc.set_num_threads(2)
A = np.random.default_rng(0).standard_normal((300, 20, 20))
bits = lambda: [x.tobytes() for x in lc.svd(A)]
want, done = bits(), threading.Event()

def call():
    while not done.is_set():
        assert bits() == want

callers = [threading.Thread(target=call) for _ in range(2)]
for caller in callers:
    caller.start()
codes = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if bits() == want else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
done.set()
for caller in callers:
    caller.join()
print(sum(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=Path(__file__).parent)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["0"]
