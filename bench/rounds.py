"""The interleaving: a process for each contestant, of which one at a time works, in rounds."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .cases import COLD, Case, Inputs
from .linear import Components, Decomposition
from .machine import HERE

AnyCase = Case | Decomposition | Components

PREPARE_SECONDS = 300
"""How long a contestant may take to compile."""

LONG_SECONDS = 0.1
"""When a call of every contestant takes longer, a third of the rounds is enough."""


@dataclass(frozen=True)
class Effort:
    """How much is sampled of every row."""

    rounds: int = 15
    epoch_rounds: int = 3
    cold_rounds: int = 5
    sample_seconds: float = 0.015
    most_calls: int = 400


QUICK = Effort(rounds=3, epoch_rounds=1, cold_rounds=1, sample_seconds=0.005, most_calls=50)


@dataclass
class Timing:
    """One contestant in one row: seconds for every operation timed, a list for each round."""

    samples: list[list[float]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """processor seconds per second of each sample, over all threads of the process"""

    @property
    def median(self) -> float:
        """Median over every call."""
        return float(np.median(np.concatenate(self.samples)))

    @property
    def p99(self) -> float:
        """99th percentile over every call."""
        return float(np.percentile(np.concatenate(self.samples), 99))

    def rounds(self) -> np.ndarray:
        """The median of each round."""
        return np.array([np.median(sample) for sample in self.samples])


@dataclass
class Row:
    """The timings of one case, and why a contestant has none."""

    case: AnyCase
    threads: int
    timings: dict[str, Timing] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class WorkerError(Exception):
    """A contestant failed, died or took too long; the message says which."""


class Worker:
    """A contestant in a process of its own, pinned to as many CPUs as it has threads; it blocks while it waits."""

    def __init__(
        self, name: str, cpus: list[int], inputs: Inputs, device: str | None = None, python: str = sys.executable
    ) -> None:
        """python: the interpreter whose libraries it works with."""
        self.name, self.threads = name, len(cpus)
        count = str(self.threads)
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        variables |= {"TORCHINDUCTOR_CACHE_DIR": str(inputs.folder / f"inductor-{count}"), "JAX_PLATFORMS": device or "cpu"}
        variables |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self.pipe, far = multiprocessing.Pipe()
        with far, (inputs.folder / f"{name}-{count}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "bench.worker", str(far.fileno()), name, json.dumps(cpus), inputs.folder, device or ""],
                env=os.environ | variables, cwd=HERE.parent, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip

    def ask(self, *request: Any) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        try:
            self.pipe.send(request)
            if not self.pipe.poll(PREPARE_SECONDS):
                self.close()
                raise WorkerError(f"no answer in {PREPARE_SECONDS} s")
            reply = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise WorkerError(f"process ended with exit code {self.process.returncode}") from error
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(case: AnyCase, workers: list[Worker], inputs: Inputs, effort: Effort) -> Row:
    """Prepare and check every contestant, then time those that passed, one sample each in every round."""
    row = Row(case, workers[0].threads)
    replies: dict[str, dict[str, Any]] = {}
    for worker in workers:
        try:
            reply = worker.ask("prepare", case)
        except WorkerError as error:
            row.refused[worker.name] = str(error)
        else:
            if "absent" not in reply:
                replies[worker.name] = reply
    if replies:
        row.refused |= case.verdicts(inputs, {name: reply["evidence"] for name, reply in replies.items()})
    racing = [worker for worker in workers if worker.name in replies and worker.name not in row.refused]
    epoch = case.task == "epoch"
    rounds = effort.epoch_rounds if epoch else effort.rounds
    if sum(replies[worker.name]["call_seconds"] for worker in racing) > LONG_SECONDS:
        rounds = max(1, rounds // 3)
    for number in range(rounds):
        for place in range(len(racing)):
            worker = racing[(place + number) % len(racing)]
            wanted = math.ceil(effort.sample_seconds / max(replies[worker.name]["call_seconds"], 1e-7))
            calls = 1 if epoch else min(max(wanted, 2), effort.most_calls)
            try:
                reply = worker.ask("sample", calls, 0 if epoch else max(1, calls // 10))
            except WorkerError as error:
                row.refused[worker.name] = str(error)
                continue
            timing = row.timings.setdefault(worker.name, Timing())
            timing.samples.append([seconds / case.steps for seconds in reply["times"]])
            timing.busy.append(reply["busy"])
    return _without_refused(row)


def measure_cold(names: list[str], cpus: list[int], inputs: Inputs, effort: Effort) -> Row:
    """Seconds from a fresh process (NumPy imported, weights in memory) to the first decoded code."""
    row = Row(COLD, len(cpus))
    for _ in range(effort.cold_rounds):
        for name in names:
            worker = Worker(name, cpus, inputs)
            try:
                reply = worker.ask("prepare", COLD)
            except WorkerError as error:
                row.refused[name] = str(error)
                continue
            finally:
                worker.close()
            row.refused |= COLD.verdicts(inputs, {name: reply["evidence"]})
            row.timings.setdefault(name, Timing()).samples.append([reply["seconds"]])
    return _without_refused(row)


def _without_refused(row: Row) -> Row:
    for name in row.refused:
        row.timings.pop(name, None)
    return row
