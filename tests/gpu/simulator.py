"""Numba's simulator with threads that run one after another, each to its next barrier, where its own poll: many times as
fast. Whoever forgets a barrier gets other bits when the order is reversed."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel

ORDER = 1  # -1: the last thread first


class Stopped(Exception):
    """Another thread of the block has failed."""


class Thread(kernel.BlockThread):
    """A thread of a block. Those that still run form a ring."""

    before: Thread
    after: Thread

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.turn = threading.Lock()
        self.turn.acquire()

    def run(self) -> None:
        self.turn.acquire()
        with np.errstate(all="ignore"):
            super().run()
        self._manager.failed |= self.exception is not None
        self.before.after, self.after.before = self.after, self.before
        self.after.turn.release()

    def syncthreads(self) -> None:
        self.after.turn.release()
        self.turn.acquire()
        if self._manager.failed:
            raise Stopped


def run(self: Any, grid_point: Any, *args: Any) -> None:
    """Runs a block. Raises the first error of a thread."""
    self.failed = False
    points = list(np.ndindex(*self._block_dim))[::ORDER]
    threads = [Thread(lambda: self._f(*args), self, grid_point, point, self._debug) for point in points]
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})  # threads inherit it, and wake each other sooner on one processor
    for i, thread in enumerate(threads):
        thread.before, thread.after = threads[i - 1], threads[(i + 1) % len(threads)]
        thread.start()
    threads[0].turn.release()
    for thread in threads:
        thread.join()
    os.sched_setaffinity(0, processors)
    errors = [thread.exception for thread in threads if thread.exception]
    for error, trace in errors:
        if not isinstance(error, Stopped):
            raise error.with_traceback(trace)


kernel.BlockManager.run = run
