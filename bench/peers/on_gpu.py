"""What the contestants on a GPU share: their arrays lie there, and their work is only asked for until somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import Peer


class OnGpu(Peer):
    """Mixed into a contestant before its class on the CPU. Calls of `inference` do not wait; all others do."""

    def wait(self) -> None:
        """Returns when the device has finished all that it was asked for."""
        raise NotImplementedError("wait")

    def decomposition(self, task: str, a: np.ndarray) -> Callable[[], Any]:
        return self._finished(super().decomposition(task, a))

    def pca_fit(self, x: np.ndarray, k: int) -> Callable[[], Any]:
        return self._finished(super().pca_fit(x, k))

    def _finished(self, call: Callable[[], Any]) -> Callable[[], Any]:
        def finished() -> Any:
            made = call()
            self.wait()
            return made

        return finished
