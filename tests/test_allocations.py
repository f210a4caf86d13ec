"""Running a bound plan allocates nothing, whatever its length: calls of the C library are counted by a shim that is
loaded before it, Python's own allocations among them. On one thread a run takes no lock and makes no system call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

long counted[5]; /* allocations, frees, mappings, threads, locks */
#define COUNT(i) __atomic_fetch_add(&counted[i], 1, __ATOMIC_RELAXED)
#define WRAP(i, type, name, declared, passed)                      \
  type name declared {                                             \
    static type(*real) declared;                                   \
    if (!real) real = (type(*) declared)dlsym(RTLD_NEXT, #name);   \
    return COUNT(i), real passed;                                  \
  }

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t), __libc_free(void *);

void *malloc(size_t size) { return COUNT(0), __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return COUNT(0), __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return COUNT(0), __libc_realloc(p, size); }
void *memalign(size_t to, size_t size) { return COUNT(0), __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { return COUNT(0), __libc_memalign(to, size); }
int posix_memalign(void **p, size_t to, size_t size) {
  COUNT(0);
  *p = __libc_memalign(to, size);
  return *p ? 0 : ENOMEM;
}
void free(void *p) { COUNT(1), __libc_free(p); }
void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) {
  COUNT(2);
  return (void *)syscall(SYS_mmap, at, size, protection, flags, file, offset);
}
int munmap(void *at, size_t size) { return COUNT(2), (int)syscall(SYS_munmap, at, size); }
WRAP(2, void *, sbrk, (intptr_t by), (by))
WRAP(2, int, brk, (void *to), (to))
WRAP(2, int, madvise, (void *at, size_t size, int advice), (at, size, advice))
WRAP(3, int, pthread_create, (pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x), (t, a, f, x))
WRAP(4, int, pthread_mutex_lock, (pthread_mutex_t *m), (m))
WRAP(4, int, pthread_mutex_trylock, (pthread_mutex_t *m), (m))
WRAP(4, int, pthread_mutex_timedlock, (pthread_mutex_t *m, const struct timespec *t), (m, t))
WRAP(4, int, pthread_rwlock_rdlock, (pthread_rwlock_t *l), (l))
WRAP(4, int, pthread_rwlock_wrlock, (pthread_rwlock_t *l), (l))
WRAP(4, int, pthread_cond_wait, (pthread_cond_t *c, pthread_mutex_t *m), (c, m))
WRAP(4, int, pthread_cond_timedwait, (pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t), (c, m, t))
WRAP(4, int, pthread_cond_signal, (pthread_cond_t *c), (c))
WRAP(4, int, pthread_cond_broadcast, (pthread_cond_t *c), (c))
WRAP(4, int, sem_wait, (sem_t *s), (s))
WRAP(4, int, sem_trywait, (sem_t *s), (s))
WRAP(4, int, sem_timedwait, (sem_t *s, const struct timespec *t), (s, t))
WRAP(4, int, sem_post, (sem_t *s), (s))
"""

COMMON = """
import ctypes, gc, json, mmap, os, sys, threading
from itertools import repeat
import numpy as np
import latentcore as lc
from latentcore.training import Trainer

lc.set_num_threads(1)  # a thread of the pool would outlive the one that is killed
rng = np.random.default_rng(0)
MODELS = {
    "vae": lc.VAE(9, (130, 60), random_state=0),
    "float64": lc.VAE(9, (130,), activation="gelu", dtype="float64", random_state=0),
    "importance": lc.VAE(9, (130,), importance_samples=3, max_grad_norm=1.0, random_state=0),
    "learned": lc.VAE(9, (130,), likelihood="gaussian", variance="learned", activation="silu", random_state=0),
    "autoencoder": lc.Autoencoder(9, (130,), random_state=0),
}
for model in MODELS.values():
    model.initialize(100)

KEPT = [("vae", None), ("float64", None), *(("vae", weights) for weights in ("float16", "int8", "int8_dynamic"))]

def function(model, name, batch, threads, weights=None):
    call = lc.compile(model, name, batch=batch, threads=threads, weights=weights)
    x = rng.random((batch, 9 if name == "decode" else 100)).astype(model.dtype)
    out = call(x)
    for _ in range(20):
        call(x, out=out)
    return call, x, out
"""

COUNT = """
gc.disable()
counted = (ctypes.c_long * 5).in_dll(ctypes.CDLL(sys.argv[1]), "counted")

def during(call, *arguments):
    before = counted[:]
    call(*arguments)
    return [b - a for a, b in zip(before, counted[:])]

def calls(count, call, x, out):
    for _ in repeat(None, count):
        call(x, out=out)

def bare(count, call):
    for _ in repeat(None, count):
        call()

def started(count):
    threads = [threading.Thread(target=type(None)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def grown(loop, *arguments):
    # what 1000 calls add to what none does
    loop(1000, *arguments)
    none, many = during(loop, 0, *arguments), during(loop, 1000, *arguments)
    return [b - a for a, b in zip(none, many)]

def slices(threads):
    # one call of the core for one step, and one for 200, that cross the ends of epochs
    found = {}
    for name, model in MODELS.items():
        trainer = Trainer(model, rng.random((300, 100)), batch_size=64)
        arrays = {"data": trainer.X, "learning_rate": np.full(200, 1e-3), "beta": np.ones(200),
                  "metrics": np.empty((200, trainer.width))}
        arrays = [arrays[b.name] for b in trainer.bound._external]
        run = lambda steps: trainer.bound.core.train(arrays, model._progress, 0, 300, 64, steps)
        run(20)
        found[name] = [during(run, steps) for steps in (1, 200)]
    return found

found = {
    "itself": grown(bare, type(None)),
    "array": grown(bare, lambda: np.empty(1 << 12)),
    "mapping": grown(bare, lambda: mmap.mmap(-1, 4096)),
    "lock": grown(bare, lambda: threading.Lock().acquire()),
    "thread": grown(started),
}
for threads in (1, 2):
    lc.set_num_threads(threads)
    found[f"train {threads}"] = slices(threads)
    for batch in (1, 16):
        for name in ("decode", "encode", "posterior", "reconstruct", "score_samples"):
            found[f"{name} {batch} {threads}"] = {
                f"{model} {weights}": grown(calls, *function(MODELS[model], name, batch, threads, weights))
                for model, weights in KEPT
            }
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was counted in a process of its own."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler and Linux are needed to count allocations")
    shim = tmp_path_factory.mktemp("shim") / "shim.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-O1", "-o", shim, "-x", "c", "-", "-ldl"],
        input=SHIM, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    environment = {**os.environ, "LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-c", COMMON + COUNT, str(shim)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    if "__libc_" in run.stderr:
        pytest.skip("the C library is not glibc")
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_the_shim_counts(counts: dict[str, Any]) -> None:
    assert counts["itself"] == [0, 0, 0, 0, 0]
    for what, column in (("array", 0), ("array", 1), ("mapping", 2), ("lock", 4)):
        assert counts[what][column] >= 1000, what
    assert counts["thread"][3] == 1000


@pytest.mark.parametrize("threads", [1, 2])
def test_training_allocates_nothing_a_step(threads: int, counts: dict[str, Any]) -> None:
    for model, (one, many) in counts[f"train {threads}"].items():
        assert many[:4] == one[:4], model
        assert many[2:4] == [0, 0], model
        if threads == 1:
            assert many[4] == one[4], model


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", ["decode", "encode", "posterior", "reconstruct", "score_samples"])
def test_a_compiled_call_allocates_nothing(name: str, batch: int, threads: int, counts: dict[str, Any]) -> None:
    for model, (*memory_and_threads, locks) in counts[f"{name} {batch} {threads}"].items():
        assert memory_and_threads == [0, 0, 0, 0], model
        if threads == 1:
            assert locks == 0, model


MADE = """
names = ("decode", "reconstruct", "score_samples")
made = [function(model, name, 16, 1) for model in MODELS.values() for name in names]
made += [function(MODELS["vae"], name, 16, 1, weights) for _, weights in KEPT for name in names]

def run():
    for call, x, out in made:
        for i in range(200):
            call(x, out=out)

run()
"""
STRICT = """
os.write(1, b"bound ")
if ctypes.CDLL(None).prctl(22, 1, 0, 0, 0) == 0:  # seccomp: a system call other than read and write kills
    run()
    os.write(1, b"ran ")
    os.getppid()
os.write(1, b"went on")
"""
MARKED = """
os.getppid()
run()
os.getppid()
os.sched_yield()
os.getppid()
"""


def test_a_run_on_one_thread_makes_no_system_call() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux can forbid system calls")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", COMMON + MADE + STRICT], env=environment, capture_output=True, timeout=60)
    if run.stdout == b"bound went on":
        pytest.skip("seccomp is not to be had here")
    assert run.stdout == b"bound ran ", run.stderr
    assert run.returncode == -9


def test_strace_sees_no_system_call_on_one_thread(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    if subprocess.run([strace, "-o", trace, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [strace, "-f", "-o", trace, sys.executable, "-c", COMMON + MADE + MARKED]
    run = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    seen = [line.split(maxsplit=1)[1].partition("(")[0] for line in trace.read_text().splitlines()]
    marks = [i for i, name in enumerate(seen) if name == "getppid"]
    assert [seen[begin + 1 : end] for begin, end in pairwise(marks)] == [[], ["sched_yield"]]
