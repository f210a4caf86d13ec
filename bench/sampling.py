"""How calls are timed in the process of a contestant: one by one or in groups, warm or with flushed caches, alone or beside
a busy thread."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Sampling:
    """What is to be timed."""

    calls: int
    """timings; fewer if `seconds` end before"""
    repeat: int = 1
    """calls in each timing"""
    seconds: float = math.inf
    warm: bool = True
    """whether a tenth as many calls go before that do not count"""
    flush: bool = False
    """whether the caches of this process's cores are filled with something else before each timing"""
    busy: bool = False
    """whether another Python thread of this process computes all the while"""


def sample(calls: Sequence[Call], order: Sampling) -> dict[str, Any]:
    """Time calls, in turns, then wait until this process has gone quiet. "times": float32 seconds of each timing divided by
    its calls, less what the timer and the loop take for a call of an empty function. "busy": processor seconds per second,
    over all threads of the process."""
    groups = [tuple(calls[(i + k) % len(calls)] for k in range(order.repeat)) for i in range(len(calls))]
    flush = _flush if order.flush else _nothing
    gc.disable()
    timer = np.median(_times([(_nothing,) * order.repeat], 1001, 1.0, _nothing))
    with _busy_thread() if order.busy else contextlib.nullcontext():
        if order.warm:
            _times(groups, order.calls // 10 or 1, order.seconds / 10, flush)
        wall, processor = time.perf_counter(), time.process_time()
        times = np.asarray(_times(groups, order.calls, order.seconds, flush))
        busy = (time.process_time() - processor) / (time.perf_counter() - wall)
    gc.enable()
    settle()
    return {"times": as_seconds(times, timer, order.repeat), "busy": busy}


def as_seconds(times: np.ndarray, timer: float, repeat: int) -> np.ndarray:
    """float32 seconds a call, of timings in nanoseconds of `repeat` calls each."""
    return (np.maximum(times - timer, 0) * (1e-9 / repeat)).astype(np.float32)


def call_seconds(calls: Sequence[Call]) -> float:
    """The fastest of a few calls."""
    return 1e-9 * min(_times([(call,) for call in calls], 5, 0.05, _nothing))


def settle(process: int | str = "self") -> None:
    """Wait until no other thread of a process spins, so that the next contestant has the machine to itself."""
    quiet = 0
    for _ in range(500):
        time.sleep(0.001)
        quiet = 0 if _running(process) else quiet + 1
        if quiet == 3:
            return


def flush_bytes() -> int:
    """So many bytes, read, leave nothing else in a cache."""
    caches = [path.read_text() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return 2 * max([32 << 10, *(int(size.strip().removesuffix("K")) for size in caches)]) << 10


def _times(groups: Sequence[tuple[Call, ...]], count: int, seconds: float, before: Call) -> list[int]:
    """Nanoseconds of up to `count` groups, in turns."""
    clock, turns, times = time.perf_counter_ns, itertools.cycle(groups), [0] * count
    end = clock() + 1e9 * seconds
    for i in range(count):
        group = next(turns)
        before()
        begin = clock()
        for call in group:
            call()
        done = clock()
        times[i] = done - begin
        if done > end:
            return times[: i + 1]
    return times


def _nothing() -> None:
    return None


_OTHER = np.ones(0, np.int64)


def _flush() -> None:
    """Fill the caches of every core of this process with something else."""
    global _OTHER
    if not len(_OTHER):
        _OTHER = np.ones(flush_bytes() // 8, np.int64)
    cpus = os.sched_getaffinity(0)
    for cpu in cpus:
        if len(cpus) > 1:
            os.sched_setaffinity(0, {cpu})
        np.bitwise_or.reduce(_OTHER)
    if len(cpus) > 1:
        os.sched_setaffinity(0, cpus)


@contextlib.contextmanager
def _busy_thread() -> Iterator[None]:
    """A thread that runs Python code without end, on any core."""
    going = [True]

    def work() -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        count = 0
        while going:
            count += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        going.clear()
        thread.join()


def _running(process: int | str) -> bool:
    """Whether a thread of a process besides the caller is running or wants to, preempted or not."""
    for task in Path(f"/proc/{process}/task").iterdir():
        if int(task.name) != threading.get_native_id():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
    return False
