from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str
NOT_FINITE: int
OUT_OF_RANGE: int

def instruction_sets() -> list[str]: ...
def ops() -> list[str]: ...

class BoundPlan:
    def __init__(self, instruction_set: str, is_double: bool, capacity: int, threads: int) -> None: ...
    def add_temporary(self, bytes: int) -> int: ...
    def add_held(self, array: NDArray[Any]) -> int: ...
    def add_external(self, name: str, bytes: int, times: str) -> int: ...
    def add_call(
        self, op: str, arguments: Sequence[int], sizes: Sequence[tuple[int, bool]], options: Sequence[float]
    ) -> None: ...
    def finish(self) -> None: ...
    def run(
        self,
        arrays: Sequence[NDArray[Any]],
        rows: int,
        step: int,
        epoch: int,
        offset: int,
        sample: int,
        seed: int,
        release_gil: bool,
    ) -> int: ...
    def train(
        self,
        arrays: Sequence[NDArray[Any]],
        progress: NDArray[Any],
        seed: int,
        data_rows: int,
        batch: int,
        steps: int,
    ) -> int: ...
    @property
    def failed_op(self) -> str: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...

class Function:
    def __init__(
        self,
        plan: BoundPlan,
        input: tuple[str, int, Sequence[int], np.dtype[Any]],
        outputs: Sequence[tuple[str, int, Sequence[int], np.dtype[Any]]],
        release_rows: int,
        stacked: bool,
    ) -> None: ...
    def __call__(self, x: object, out: object = None) -> Any: ...
