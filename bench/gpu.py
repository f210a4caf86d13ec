"""`python -m bench.gpu`: time everything on a GPU beside the peers, and write results/<gpu>.json and the GPU's part of
RESULTS.md. With --rehearse the same way is gone on the CPU in a few small rows: nothing of it is a result."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import machine, report
from .cases import Inputs
from .gpu_cases import GpuCase, GpuRow, gpu_cases, rehearsal
from .peers import ENGINE, GPU_CONTESTANTS
from .rounds import QUICK, Effort, Row, Worker, measure

EFFORT = Effort(rounds=5, sample_seconds=0.05, most_calls=50)
_REHEARSING = (ENGINE, "torch", "JAX")
_PEERS = ("torch", "torch.compile", "JAX")  # which pin compilers and libraries of their own
_SIDE, _BYTES = 8192, 2**30  # of the matrices, and of the array, that the ceilings are measured with


def main() -> int:
    """Run the rows; 1 if latentcore failed or was refused in one, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="without a GPU: everything but launches")
    parser.add_argument("--contestants", metavar="NAME,NAME", help=f"of {', '.join(GPU_CONTESTANTS)}")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="what torch and JAX are installed for")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no row after so many")
    parser.add_argument("--output", type=Path, metavar="DIR", default=machine.HERE, help="where to write (default: bench/)")
    options, begun = parser.parse_args(), time.perf_counter()
    if options.rehearse and options.output == machine.HERE:
        parser.error("--rehearse: expected --output, since a rehearsal is no result")
    device = "cpu" if options.rehearse else "cuda"
    pythons = {name: options.peers if name in _PEERS else sys.executable for name in GPU_CONTESTANTS}
    versions = {k: v for name, python in pythons.items() for k, v in machine.installed([name], python).items()}
    names = options.contestants.split(",") if options.contestants else list(GPU_CONTESTANTS)
    names = [name for name in names if name in versions and (device == "cuda" or name in _REHEARSING)]
    limits = ceilings(device)
    about = machine.describe() | {"gpu": limits.pop("name"), "driver": limits.pop("driver")}
    with tempfile.TemporaryDirectory(prefix="latentcore-bench-") as scratch:
        inputs = Inputs.write(Path(scratch))
        cases = rehearsal() if options.rehearse else gpu_cases()
        workers = [Worker(name, machine.cores()[:2], inputs, device, pythons[name]) for name in names]
        rows = _run(cases, workers, inputs, EFFORT if device == "cuda" else QUICK, begun + options.seconds)
        records = summarize(rows, limits, inputs)
    command = " ".join(["python -m bench.gpu", *sys.argv[1:]])
    run = {"machine": about, "versions": {name: versions[name] for name in names}, "command": command}
    write(options.output, {**run, "ceilings": limits, "rows": records})
    print(report.gpu_part(options.output))
    for case in cases[len(rows) :]:
        print(f"{case}: no time was left", file=sys.stderr)
    return int(len(rows) < len(cases) or any(ENGINE in row.refused or ENGINE not in row.timings for row in rows))


def _run(cases: list[GpuRow], workers: list[Worker], inputs: Inputs, effort: Effort, end: float) -> list[Row]:
    """The rows that were begun before the end. The contestants take turns, a process each; those that are not working wait
    for their next request."""
    rows = []
    for case in cases:
        begin = time.perf_counter()
        if begin > end:
            break
        rows.append(measure(case, workers, inputs, effort))
        times = ", ".join(f"{name} {1e6 * timing.median:.1f}" for name, timing in rows[-1].timings.items())
        refused = "".join(f"; {name}: {reason}" for name, reason in rows[-1].refused.items())
        print(f"{case} [{time.perf_counter() - begin:.0f} s], µs: {times}{refused}", file=sys.stderr, flush=True)
    for worker in workers:
        worker.close()
    return rows


def summarize(rows: list[Row], limits: dict[str, Any], inputs: Inputs) -> list[dict[str, Any]]:
    """The records of a report, and what each row's work is."""
    records = report.summarize(rows, dict.fromkeys({row.threads for row in rows}, limits), inputs)
    for row, record in zip(rows, records, strict=True):
        work = row.case.work(inputs, skip_zeros=False)
        title = row.case.title if isinstance(row.case, GpuCase) else row.case.task
        record |= {"task": title, "flops": work.flops, "bytes": work.bytes}
    return records


def write(folder: Path, run: dict[str, Any]) -> None:
    """Writes results/<gpu>.json under `folder`, and the GPU's part of RESULTS.md anew."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", run["machine"]["gpu"].lower()).strip("-")
    (folder / "results" / f"{slug}.json").write_text(json.dumps({"gpu": run}, indent=1) + "\n")
    path = folder / "RESULTS.md"
    path.write_text(report.with_gpu_part(path.read_text() if path.exists() else "# Benchmarks\n", folder))


def ceilings(device: str) -> dict[str, Any]:
    """What the device reaches: copies through its memory and through its cache, and a product of float32 matrices; in the
    form that floors are computed from. For a rehearsal the CPU, in small."""
    if device == "cuda":
        import cupy as xp

        facts = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)
        name, cache, wait = facts["name"].decode(), facts["l2CacheSize"], xp.cuda.get_current_stream().synchronize
        driver, side, large = str(xp.cuda.runtime.driverGetVersion()), _SIDE, _BYTES
    else:
        xp, name, cache, driver, side, large = np, "a rehearsal", 2**20, "none", 256, 2**23

        def wait() -> None:
            pass

    def rate(call: Any, units: float, calls: int) -> float:
        """Billions of units a second: the median of ten rounds."""
        seconds = []
        for _ in range(10):
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            wait()
            seconds.append((time.perf_counter() - begin) / calls)
        return 1e-9 * units / float(np.median(seconds[1:]))

    def copies(size: int, calls: int) -> float:
        source = xp.asarray(np.random.default_rng(0).random(size // 4, np.float32))
        target = xp.empty_like(source)

        def copy() -> None:
            target[...] = source

        return rate(copy, 2.0 * source.nbytes, calls)

    a = xp.asarray(np.random.default_rng(0).random((side, side), np.float32))
    product = xp.empty_like(a)
    return {
        "name": name,
        "driver": driver,
        "fma_gflops": rate(lambda: xp.matmul(a, a, out=product), 2.0 * side**3, 3),
        "levels": [
            {"name": "cache", "capacity": cache, "gbps": copies(cache // 4, 100)},
            {"name": "memory", "capacity": 2**60, "gbps": copies(large, 5)},
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
