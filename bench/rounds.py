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

from .cases import Case, Inputs
from .latency import Latency
from .linear import Components, Decomposition
from .machine import HERE
from .sampling import Sampling

AnyCase = Case | Decomposition | Components | Latency

PREPARE_SECONDS = 300
"""How long a contestant may take to compile."""

LONG_SECONDS = 0.1
"""When a call of every contestant takes longer, a third of the rounds is enough."""

SHORT_SECONDS, GROUP_SECONDS, GROUPS = 5e-6, 2e-5, 100
"""The median of calls shorter than the first is that of timings of many, so many as last the second together."""


@dataclass(frozen=True)
class Effort:
    """How much is sampled of every row."""

    rounds: int = 15
    epoch_rounds: int = 3
    start_rounds: int = 3
    sample_seconds: float = 0.015
    most_calls: int = 400
    tail_rounds: int = 5
    tail_calls: int = 100_000
    """of a latency row, over all rounds, if `tail_seconds` are enough for them"""
    tail_seconds: float = 1.75


QUICK = Effort(
    rounds=3,
    epoch_rounds=1,
    start_rounds=1,
    sample_seconds=0.005,
    most_calls=50,
    tail_rounds=2,
    tail_calls=200,
    tail_seconds=0.02,
)


@dataclass
class Timing:
    """One contestant in one row: seconds for every operation timed, a list for each round."""

    samples: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    """of calls too short to be timed alone, the same of timings of many calls, divided by their number"""
    busy: list[float] = field(default_factory=list)
    """processor seconds per second of each sample, over all threads of the process"""

    @property
    def median(self) -> float:
        """Median over every call, or over every group of calls."""
        return float(np.median(np.concatenate(self.groups or self.samples)))

    @property
    def p99(self) -> float:
        """99th percentile over every call."""
        return self.percentile(99)

    def percentile(self, q: float) -> float:
        """A percentile over every call."""
        return float(np.percentile(np.concatenate(self.samples), q))

    def rounds(self) -> np.ndarray:
        """The median of each round."""
        return np.array([np.median(sample) for sample in self.groups or self.samples])


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
        self.name, self.cpus, self.threads = name, cpus, len(cpus)
        count = str(self.threads)
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        variables |= {"TORCHINDUCTOR_CACHE_DIR": str(inputs.folder / f"inductor-{count}"), "JAX_PLATFORMS": device or "cpu"}
        variables |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self.environment = os.environ | variables
        self.pipe, far = multiprocessing.Pipe()
        with far, (inputs.folder / f"{name}-{count}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "bench.worker", str(far.fileno()), name, json.dumps(cpus), inputs.folder, device or ""],
                env=self.environment, cwd=HERE.parent, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, stdout=log,
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
    rounds = effort.tail_rounds if isinstance(case, Latency) else effort.epoch_rounds if epoch else effort.rounds
    if sum(replies[worker.name]["call_seconds"] for worker in racing) > LONG_SECONDS:
        rounds = max(1, rounds // 3)
    for number in range(rounds):
        for place in range(len(racing)):
            worker = racing[(place + number) % len(racing)]
            timing = row.timings.setdefault(worker.name, Timing())
            try:
                for order in _orders(case, replies[worker.name]["call_seconds"], effort):
                    reply = worker.ask("sample", order)
                    kept = timing.groups if order.repeat > 1 else timing.samples
                    kept.append(reply["times"] / case.steps)
                    if reply["busy"] is not None:
                        timing.busy.append(reply["busy"])
            except WorkerError as error:
                row.refused[worker.name] = str(error)
    return _without_refused(row)


def _orders(case: AnyCase, seconds: float, effort: Effort) -> list[Sampling]:
    """What is timed in a round, of calls that take about so many seconds."""
    if case.task == "epoch":
        return [Sampling(1, warm=False)]
    if not isinstance(case, Latency):
        wanted = math.ceil(effort.sample_seconds / max(seconds, 1e-7))
        return [Sampling(min(max(wanted, 2), effort.most_calls))]
    limit = effort.tail_seconds * case.share / effort.tail_rounds
    calls = effort.tail_calls // effort.tail_rounds
    orders = [Sampling(calls, seconds=limit, flush=case.state == "flushed", busy=case.state == "busy")]
    if case.state == "warm" and seconds < SHORT_SECONDS:
        orders.append(Sampling(GROUPS, math.ceil(GROUP_SECONDS / max(seconds, 1e-7)), limit))
    return orders


def measure_starts(case: Latency, workers: list[Worker], inputs: Inputs, effort: Effort) -> Row:
    """The seconds that fresh processes take from a saved network to its first output, one process each in every round,
    after one that does not count, when Python's bytecode is written and files are in memory."""
    row = Row(case, workers[0].threads)
    commands: dict[str, list[str]] = {}
    for worker in workers:
        try:
            reply = worker.ask("start", case)
        except WorkerError as error:
            row.refused[worker.name] = str(error)
        else:
            if "absent" not in reply:
                commands[worker.name] = reply["command"]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": PREPARE_SECONDS, "cwd": HERE.parent}
    options["env"] = {k: v for k, v in workers[0].environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, workers[0].cpus)
    for number in range(1 + effort.start_rounds):
        for name, command in commands.items():
            if name in row.refused:
                continue
            try:
                done = subprocess.run(command, check=True, **options)
            except subprocess.SubprocessError as error:
                said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
                row.refused[name] = said[-1][:200] if said else str(error)
                continue
            output = np.frombuffer(done.stdout[8:], np.float32).reshape(1, case.batch, -1)
            row.refused |= case.verdicts(inputs, {name: ("float32", output)})
            if number:
                row.timings.setdefault(name, Timing()).samples.append(np.frombuffer(done.stdout[:8], np.float64))
    os.sched_setaffinity(0, mine)
    return _without_refused(row)


def _without_refused(row: Row) -> Row:
    for name in row.refused:
        row.timings.pop(name, None)
    return row
