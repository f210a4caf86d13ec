"""The rows of the GPU's table: training and decoding, decompositions and components, at sizes that fill a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cases import Case
from .linear import Components, Decomposition
from .network import IMPORTANCE, Parameters

if TYPE_CHECKING:
    from .peers import Peer


@dataclass(frozen=True)
class GpuCase(Case):
    """A training or inference row."""

    repeats: int = 200
    """Steps, or passes, that are asked for before anybody waits: a device works while the next one is being asked for."""

    section = "gpu"

    def __str__(self) -> str:
        return f"{self.title} {self.data} {self.batch}"

    @property
    def title(self) -> str:
        """The task, and of how many importance samples the bound is."""
        return self.task + (f", {self.network.samples} importance samples" if self.network.samples > 1 else "")

    @property
    def steps(self) -> int:
        return self.repeats

    def prepare(self, peer: Peer, material: tuple[Parameters, np.ndarray]) -> tuple[Callable[[], Any], Any]:
        call, evidence = super().prepare(peer, material)
        if self.trains:
            return call, evidence

        def repeated() -> None:
            for _ in range(self.steps):
                call()
            peer.wait()

        return repeated, evidence


@dataclass(frozen=True)
class GpuDecomposition(Decomposition):
    """A batch of matrices."""

    section = "gpu"


@dataclass(frozen=True)
class GpuComponents(Components):
    """A fit of principal components."""

    section = "gpu"


GpuRow = GpuCase | GpuDecomposition | GpuComponents


def gpu_cases() -> list[GpuRow]:
    """Every row, in the order of the table."""
    shapes = [
        (100000, 2, 2), (100000, 3, 3), (50000, 8, 8), (10000, 16, 16), (4000, 32, 32), (4000, 33, 33), (1000, 64, 64),
        (1000, 64, 32), (300, 128, 128), (300, 900, 100), (50, 256, 256),
    ]  # fmt: skip
    orders = [(50000, 8), (4000, 32), (1000, 64), (300, 128), (50, 256)]
    return [
        *(GpuCase("train step", "mnist", batch) for batch in (16, 128, 1024)),
        GpuCase("train step", "mnist", 20, IMPORTANCE),
        *(GpuCase("decode", "codes", batch) for batch in (1, 128, 1024)),
        *(GpuDecomposition("svd", *shape) for shape in shapes),
        *(GpuDecomposition("eigh", batch, n, n) for batch, n in orders),
        GpuComponents("pca fit", "mnist", 60000),
    ]


def rehearsal() -> list[GpuRow]:
    """A few small rows that a CPU gets through."""
    return [
        GpuCase("train step", "mnist", 16, repeats=3),
        GpuCase("train step", "mnist", 20, IMPORTANCE, repeats=1),
        GpuCase("decode", "codes", 1, repeats=3),
        GpuDecomposition("svd", 100, 3, 3),
        GpuDecomposition("eigh", 10, 33, 33),
    ]
