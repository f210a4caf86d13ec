"""The thread pool: nothing started by import, nothing left running after a call, the same bits under many callers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc
from latentcore.training import Trainer

X = np.random.default_rng(0).random((300, 50), np.float32)
Z = np.random.default_rng(1).standard_normal((300, 9)).astype(np.float32)


def vae(**parameters: Any) -> lc.VAE:
    return lc.VAE(**{"latent_dim": 9, "hidden": (130,), "epochs": 1, "batch_size": 64, "random_state": 0, **parameters})


def bits(arrays: Any) -> list[bytes]:
    return [a.tobytes() for a in (arrays.values() if isinstance(arrays, dict) else arrays)]


def run(program: str) -> list[str]:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells how many threads there are")


@needs_proc
def test_threads_start_on_first_need_and_stay_few() -> None:
    started = run("""
import os
import numpy as np
import safetensors.numpy
tasks = lambda: len(os.listdir("/proc/self/task"))
before = tasks()
def show(): print(tasks() - before)
import latentcore as lc
show()
model = lc.VAE(3, (20,), random_state=0)
lc.set_num_threads(1)
model.initialize(7)
X = np.zeros((100, 7))
lc.train(model, X, epochs=1)
model.encode(X)
show()
for threads in (2, 2, 4, 3, 1, 4, 9):
    lc.set_num_threads(threads)
    model.encode(X)
    lc.train(model, X, epochs=1)
    show()
decode = lc.compile(model, "decode", threads=1)
show()
decode = lc.compile(model, "decode", threads=12)
show()
decode(np.zeros((1, 3), np.float32))
show()
""")
    assert started == ["0", "0", "1", "1", "3", "3", "3", "3", "8", "8", "11", "11"]


def test_nothing_spins_after_a_call() -> None:
    used = run("""
import time
import numpy as np
import latentcore as lc
lc.set_num_threads(4)
model = lc.VAE(9, (400,), random_state=0).initialize(100)
X = np.random.default_rng(0).random((512, 100))
for call in (lambda: model.encode(X), lambda: lc.train(model, X, epochs=3), lambda: model.decode(np.zeros((1, 9)))):
    call()
    begun = time.process_time()
    time.sleep(0.3)
    print(time.process_time() - begun)
""")
    assert len(used) == 3
    assert max(map(float, used)) < 0.02


def test_many_callers_get_the_same_bits(threads: Callable[[int], None]) -> None:
    threads(1)
    model = vae().fit(X)
    others = [vae(random_state=seed, hidden=(130 + seed,)) for seed in range(3)]
    decode = [lc.compile(model, "decode", batch=300, threads=1)(Z)]
    calls: list[Callable[[], list[bytes]]] = [
        lambda: bits(model.encode(X)),
        lambda: bits([model.decode(Z)]),
        lambda: bits([model.reconstruct(X[:17])]),
        lambda: bits([model.score_samples(X, 3)]),
        lambda: bits([lc.sample(model, 40, 1)]),
        lambda: bits([lc.interpolate(model, X[0], X[1])]),
        lambda: bits(model.loss_and_gradients(X)[1]),
        lambda: bits(model.parameters()),
        lambda: bits([lc.compile(model, "decode", batch=300, threads=3)(Z)]),
        *[lambda other=other: bits(type(other)(**other.get_params()).fit(X).parameters()) for other in others],
    ]
    expected = [call() for call in calls]
    assert expected[8] == bits(decode)
    threads(3)
    start = threading.Barrier(len(calls))

    def repeat(call: Callable[[], list[bytes]]) -> list[list[bytes]]:
        start.wait()
        return [call() for _ in range(12)]

    with ThreadPoolExecutor(len(calls)) as executor:
        found = list(executor.map(repeat, calls))
    assert found == [[one] * 12 for one in expected]


def test_the_number_of_threads_may_change_between_and_during_calls(threads: Callable[[int], None]) -> None:
    model = vae().fit(X)
    expected = bits(model.encode(X))
    done = threading.Event()

    def switch() -> None:
        count = 1
        while not done.is_set():
            count = count % 5 + 1
            threads(count)
            time.sleep(0.001)

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        for _ in range(200):
            assert bits(model.encode(X)) == expected
    finally:
        done.set()
        switcher.join()


def test_a_run_beside_a_long_one_works_alone(threads: Callable[[int], None]) -> None:
    threads(2)
    model, other = vae().fit(X), vae(random_state=1).fit(X)
    expected = bits(model.encode(X))
    trainer = Trainer(other, X)
    trainer.run(20)
    begun = time.perf_counter()
    trainer.run(20)
    steps = int(20 * 0.6 / (time.perf_counter() - begun)) + 1
    long = threading.Thread(target=trainer.run, args=(steps,))  # one call of the core, which leads the pool
    long.start()
    time.sleep(0.05)
    for _ in range(20):
        assert bits(model.encode(X)) == expected
    beside = long.is_alive()
    long.join()
    assert beside
    alone = vae(random_state=1).fit(X)
    Trainer(alone, X).run(40 + steps)
    assert bits(alone.parameters()) == bits(other.parameters())


def test_two_threads_cannot_train_one_model(threads: Callable[[int], None]) -> None:
    threads(2)
    model = vae().fit(X)
    inside, go_on = threading.Event(), threading.Event()

    def hold(epoch: int, record: Any) -> None:
        inside.set()
        go_on.wait(30)

    first = threading.Thread(target=lambda: lc.train(model, X, epochs=1, callback=hold))
    first.start()
    assert inside.wait(30)
    try:
        with pytest.raises(RuntimeError, match="this model is being trained"):
            lc.train(model, X, epochs=1)
        assert np.isfinite(model.encode(X)[0]).all()
    finally:
        go_on.set()
        first.join()
    lc.train(model, X, epochs=1)
    expected = vae().fit(X)
    lc.train(expected, X, epochs=2)
    assert bits(model.parameters()) == bits(expected.parameters())


def test_a_matrix_that_the_threads_share(threads) -> None:
    """Rotations are applied by the others while the caller makes the next ones."""
    A = np.random.default_rng(2).standard_normal((130, 130))
    threads(1)
    expected = bits((*lc.svd(A), *lc.eigh(A)))
    threads(3)
    with ThreadPoolExecutor(2) as callers:
        for found in callers.map(lambda _: bits((*lc.svd(A), *lc.eigh(A))), range(6)):
            assert found == expected
