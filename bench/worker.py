"""A contestant's process: `python -m bench.worker PIPE NAME CPUS FOLDER DEVICE`, started by ``rounds.Worker`` under the
Python whose libraries the contestant is of. It serves the requests that come by the pipe, a file descriptor."""

from __future__ import annotations

import gc
import json
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from .cases import Inputs
from .native import Program
from .peers import Calls, Peer, load
from .sampling import call_seconds, sample, settle


def main() -> None:
    """Serve until the pipe ends."""
    end, name, cores, folder, device = sys.argv[1:]
    cpus = json.loads(cores)
    os.sched_setaffinity(0, cpus)
    _serve(Connection(int(end)), name, len(cpus), Inputs(Path(folder)), device or None)


def _serve(pipe: Connection, name: str, threads: int, inputs: Inputs, device: str | None) -> None:
    peer: Peer | None = None
    calls: Calls | Program = []
    while True:
        try:
            action, given = pipe.recv()
        except EOFError:
            return
        try:
            peer = peer or load(name, threads, device)
            if action == "sample":
                reply = calls.sample(given) if isinstance(calls, Program) else sample(calls, given)
            elif action == "start":
                reply = {"command": given.start(peer, given.load(inputs), str(inputs.folder / f"{name}.saved"))}
            else:
                calls = []
                prepared, evidence = given.prepare(peer, given.load(inputs))
                calls = prepared if isinstance(prepared, (list, Program)) else [prepared]
                gc.collect()
                gc.freeze()
                epoch = given.task == "epoch"
                seconds = 0.0 if epoch else calls.call_seconds() if isinstance(calls, Program) else call_seconds(calls)
                reply = {"evidence": evidence, "call_seconds": seconds}
                settle()
        except NotImplementedError:
            reply = {"absent": True}
        except Exception as error:  # the parent reports it and goes on without this contestant
            lines = str(error).strip().splitlines()
            reply = {"error": f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]}
        pipe.send(reply)


if __name__ == "__main__":
    main()
