"""Numba's simulator with threads that wait for one another at barriers, where its own poll: seven times as fast."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel


class Barrier:
    """Opens when every thread that still runs has come."""

    def __init__(self, parties: int) -> None:
        self.parties, self.waiting, self.passed, self.broken = parties, 0, 0, False
        self.changed = threading.Condition()

    def wait(self) -> None:
        with self.changed:
            passed = self.passed
            self.waiting += 1
            self._open()
            while passed == self.passed and not self.broken:
                self.changed.wait()
            if self.broken:
                raise threading.BrokenBarrierError

    def leave(self) -> None:
        with self.changed:
            self.parties -= 1
            self._open()

    def abort(self) -> None:
        with self.changed:
            self.broken = True
            self.changed.notify_all()

    def _open(self) -> None:
        if self.waiting and self.waiting >= self.parties:
            self.waiting = 0
            self.passed += 1
            self.changed.notify_all()


class Thread(kernel.BlockThread):
    """A thread of a block, whose first error every thread's wait ends with."""

    def run(self) -> None:
        with np.errstate(all="ignore"):
            super().run()
        if self.exception:
            self._manager.barrier.abort()
        else:
            self._manager.barrier.leave()

    def syncthreads(self) -> None:
        self._manager.barrier.wait()


def run(self: Any, grid_point: Any, *args: Any) -> None:
    """Runs a block. Raises the first error of a thread."""
    points = list(np.ndindex(*self._block_dim))
    self.barrier = Barrier(len(points))
    threads = [Thread(lambda: self._f(*args), self, grid_point, point, self._debug) for point in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [t.exception for t in threads if t.exception]
    for error in errors:
        if not isinstance(error[0], threading.BrokenBarrierError):
            raise error[0].with_traceback(error[1])


kernel.BlockManager.run = run
