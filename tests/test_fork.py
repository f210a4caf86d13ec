"""Forks: a child has none of its parent's threads, and works all the same. Each test forks in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMON = """
import os, signal, sys, threading, time
import numpy as np
import latentcore as lc
from latentcore.training import Trainer

signal.alarm(60)
lc.set_num_threads(2)
X = np.random.default_rng(0).random((300, 50), np.float32)

def vae(seed=0):
    return lc.VAE(9, (130,), epochs=1, batch_size=64, random_state=seed).fit(X)

def bits(arrays):
    return b"".join(a.tobytes() for a in arrays)

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 2

def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        code = 1
        try:
            code = 0 if work() else 2
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    return pid

def codes(pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

model = vae()
expected = bits(model.encode(X))
trained = bits(vae(1).parameters().values())
"""

PROGRAMS = {
    # the pool of the parent sleeps
    "idle": """
def work():
    before = tasks()
    same = bits(model.encode(X)) == expected and bits(vae(1).parameters().values()) == trained
    return same and before == 1 and tasks() == 2

for _ in range(10):
    assert codes([child(work)]) == [0]
assert bits(model.encode(X)) == expected
print(codes([child(work) for _ in range(4)]))
""",
    # one call of the core holds the pool all the while
    "in a long call": """
trainer = Trainer(vae(2), X)
begun = time.perf_counter()
trainer.run(20)
steps = int(20 * 1.5 / (time.perf_counter() - begun)) + 1
found, running = [], 0
while running < 3:
    long = threading.Thread(target=trainer.run, args=(steps,))
    long.start()
    while long.is_alive():
        found += codes([child(lambda: bits(model.encode(X)) == expected and bits(vae(1).parameters().values()) == trained)])
        running += long.is_alive()
        time.sleep(0.01)
assert not any(found), found
assert bits(model.encode(X)) == expected
print([0] * 4)
""",
    # many short runs wake and park the pool while others fork
    "in short calls": """
done = threading.Event()

def encode():
    while not done.is_set():
        assert bits(model.encode(X)) == expected

callers = [threading.Thread(target=encode) for _ in range(2)]
other = vae()
for caller in callers:
    caller.start()
found = codes([child(lambda: bits(other.encode(X)) == expected) for _ in range(30)])
done.set()
for caller in callers:
    caller.join()
assert not any(found), found
print(found[:4])
""",
    # children have children
    "deep": """
def work(depth):
    same = bits(model.encode(X)) == expected
    return same and (depth == 0 or codes([child(lambda: work(depth - 1))]) == [0])

print(codes([child(lambda: work(3)) for _ in range(4)]))
""",
    "multiprocessing": """
import multiprocessing

def encode(rows):
    return bits(model.encode(X[:rows]))

with multiprocessing.get_context("fork").Pool(3) as pool:
    found = pool.map(encode, [300, 1, 17, 300] * 5)
assert found == [encode(rows) for rows in [300, 1, 17, 300] * 5]
assert found[0] == expected
print([0] * 4)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_fork(name: str) -> None:
    # Python warns of every fork beside threads, rightly: what it warns of is tested here
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", COMMON + PROGRAMS[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split() == ["[0,", "0,", "0,", "0]"]
