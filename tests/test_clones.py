"""Compiled functions in several threads: each its clone, or an error."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from compiled import FEATURES, LATENT

import latentcore as lc


@pytest.mark.parametrize("threads", [1, 2])
def test_clones_in_many_threads(threads: int) -> None:
    model = lc.VAE(LATENT, (200, 200), random_state=0).initialize(FEATURES)
    call = lc.compile(model, "decode", batch=64, threads=threads, release_gil=True)
    rng = np.random.default_rng(2)
    given = [rng.standard_normal((64, LATENT)).astype("f4") for _ in range(8)]
    want = [model.decode(each) for each in given]
    start = threading.Barrier(8)

    def repeat(x: np.ndarray) -> set[bytes]:
        start.wait()
        mine = call if x is given[0] else call.clone()  # a function is cloned while it runs
        return {(mine if n % 3 else mine.clone())(x).tobytes() for n in range(100)}

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(repeat, given))
    assert found == [{each.tobytes()} for each in want]


@pytest.mark.parametrize("release", [True, False])
def test_two_threads_and_one_function(release: bool) -> None:
    model = lc.VAE(LATENT, (200, 200), random_state=0).initialize(FEATURES)
    rng = np.random.default_rng(2)
    given = [rng.standard_normal((256, LATENT)).astype("f4") for _ in range(3)]
    want = [model.decode(each).tobytes() for each in given]
    call = lc.compile(model, "decode", batch=256, threads=2, release_gil=release)
    refused = [0, 0, 0]
    wrong: list[str] = []
    deadline = time.perf_counter() + 1

    def repeat(i: int) -> None:
        made = np.empty((256, FEATURES), np.float32)
        for n in range(1000):
            try:
                if call(given[i], out=made).tobytes() != want[i]:
                    wrong.append("other bits")
            except RuntimeError as error:
                refused[i] += 1
                if "running in another thread" not in str(error):
                    wrong.append(str(error))
            if n > 20 and time.perf_counter() > deadline:
                break

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (sum(refused) > 0) == release
    assert call(given[0]).tobytes() == want[0]
