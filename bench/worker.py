"""A contestant's process: `python -m bench.worker PIPE NAME CPUS FOLDER DEVICE`, started by ``rounds.Worker`` under the
Python whose libraries the contestant is of. It serves the requests that come by the pipe, a file descriptor."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .cases import COLD, Inputs
from .peers import BUILDERS, Peer, load


def main() -> None:
    """Serve until the pipe ends."""
    end, name, cores, folder, device = sys.argv[1:]
    cpus = json.loads(cores)
    os.sched_setaffinity(0, cpus)
    _serve(Connection(int(end)), name, len(cpus), Inputs(Path(folder)), device or None)


def _serve(pipe: Connection, name: str, threads: int, inputs: Inputs, device: str | None) -> None:
    if name in BUILDERS:
        importlib.import_module(BUILDERS[name])
    peer: Peer | None = None
    call: Callable[[], Any] = list
    while True:
        try:
            action, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            if action == "prepare":
                (case,) = arguments
                material = case.load(inputs)
                begin = time.perf_counter()
                peer = peer or load(name, threads, device)
                call, evidence = case.prepare(peer, material)
                reply = {"evidence": evidence, "seconds": time.perf_counter() - begin}
                gc.collect()
                gc.freeze()
                reply["call_seconds"] = 0.0 if case == COLD or case.task == "epoch" else _call_seconds(call)
                _settle()
            else:
                reply = _sample(call, *arguments)
        except NotImplementedError:
            reply = {"absent": True}
        except Exception as error:  # the parent reports it and goes on without this contestant
            lines = str(error).strip().splitlines()
            reply = {"error": f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]}
        pipe.send(reply)


def _call_seconds(call: Callable[[], Any]) -> float:
    times: list[float] = []
    while len(times) < 5 and sum(times) < 0.05:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def _sample(call: Callable[[], Any], calls: int, warm: int) -> dict[str, Any]:
    """Time `calls` calls one by one after `warm` untimed ones, then wait until this process has gone quiet."""
    times = [0] * calls
    clock = time.perf_counter_ns
    gc.disable()
    for _ in range(warm):
        call()
    wall, processor = time.perf_counter(), time.process_time()
    for i in range(calls):
        begin = clock()
        call()
        times[i] = clock() - begin
    busy = (time.process_time() - processor) / (time.perf_counter() - wall)
    gc.enable()
    _settle()
    return {"times": [nanoseconds * 1e-9 for nanoseconds in times], "busy": busy}


def _settle() -> None:
    """Wait until no other thread of this process spins, so that the next contestant has the machine to itself."""
    quiet = 0
    for _ in range(500):
        time.sleep(0.001)
        quiet = 0 if _running() else quiet + 1
        if quiet == 3:
            return


def _running() -> bool:
    """Whether a thread of this process besides the caller is running or wants to, preempted or not."""
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != threading.get_native_id():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
    return False


if __name__ == "__main__":
    main()
