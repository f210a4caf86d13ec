"""`python -m bench`: time everything, print the tables, and write RESULTS.md and results/ when the run was whole."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from pathlib import Path

from . import machine, report
from .cases import COLD, Inputs, cases
from .linear import linear_cases
from .peers import CONTESTANTS, ENGINE
from .rounds import QUICK, AnyCase, Effort, Row, Worker, measure, measure_cold

NOT_COLD = ("torch.compile", "NumPy", "SciPy", "scikit-learn")
"""Compiling is no start, NumPy's own import is not counted for anybody, and the others have no network."""


def main() -> int:
    """Run the benchmarks; 1 if latentcore failed or was refused in a row, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few, short samples")
    parser.add_argument("--section", choices=report.TITLES, help="one of the two halves; the other's results stay")
    parser.add_argument("--only", metavar="PATTERN", help="rows that match, as 'decode*' or 'train step mnist 128'")
    parser.add_argument("--threads", metavar="N,N", help="numbers of threads (default: 1,2 as far as there are cores)")
    parser.add_argument("--contestants", metavar="NAME,NAME", help=f"of {', '.join(CONTESTANTS)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: bench/, if all rows ran)")
    options = parser.parse_args()

    cores = machine.cores()
    counts = [int(n) for n in options.threads.split(",")] if options.threads else [n for n in (1, 2) if n <= len(cores)]
    versions = machine.installed()
    names = options.contestants.split(",") if options.contestants else list(CONTESTANTS)
    for name in names:
        if name not in CONTESTANTS:
            parser.error(f"--contestants: {name!r} is none of {', '.join(CONTESTANTS)}")
        if name not in versions:
            print(f"{name} is not installed and takes no part", file=sys.stderr)
    names = [name for name in names if name in versions]
    if not names or not counts or not 1 <= min(counts) <= max(counts) <= len(cores):
        parser.error(f"nothing to run: {len(cores)} cores, contestants installed: {', '.join(versions)}")
    halves = {"neural": [*cases(), COLD], "linear": linear_cases()}
    wanted = [case for half, rows in halves.items() if options.section in (None, half) for case in rows]
    chosen = [case for case in wanted if fnmatch.fnmatch(str(case), options.only or "*")]

    about, begin, spent = machine.describe(), time.perf_counter(), machine.processor_seconds()
    with tempfile.TemporaryDirectory(prefix="latentcore-bench-") as scratch:
        inputs = Inputs.write(Path(scratch))
        program = machine.build_ceilings(Path(scratch))
        limits, rows = {}, []
        for count in counts:
            effort = QUICK if options.quick else Effort()
            mine = [case for case in chosen if case != COLD or count == counts[0]]
            measured, more = _run(mine, names, cores[:count], inputs, effort, program)
            limits[count] = measured
            rows += more
        everybody, own = (after - before for after, before in zip(machine.processor_seconds(), spent, strict=True))
        about["neighbours"] = round(max(0.0, everybody - own) / (time.perf_counter() - begin), 2)
        records = report.summarize(rows, limits, inputs)
    command = " ".join(["python -m bench", *sys.argv[1:]])
    taken = {name: versions[name] for name in names}
    run = {"machine": about, "versions": taken, "command": command, "ceilings": list(limits.values())}
    whole = not (options.quick or options.only or options.threads or options.contestants) and ENGINE in names
    if whole or options.output:
        report.write(options.output or machine.HERE, run, records)
    sections = {record["section"]: {**run, "rows": []} for record in records}
    for record in records:
        sections[record["section"]]["rows"].append(record)
    print(report.markdown(sections))
    return int(any(ENGINE in row.refused for row in rows))


def _run(
    chosen: list[AnyCase], names: list[str], cpus: list[int], inputs: Inputs, effort: Effort, program: Path
) -> tuple[dict, list[Row]]:
    """The ceilings and the rows for as many threads as cpus."""
    ceilings, rows = [machine.ceilings(program, cpus)], []
    workers = [Worker(name, cpus, inputs) for name in names]
    for case in chosen:
        begin = time.perf_counter()
        if case == COLD:
            row = measure_cold([name for name in names if name not in NOT_COLD], cpus, inputs, effort)
        else:
            row = measure(case, workers, inputs, effort)
        rows.append(row)
        if len(rows) % 6 == 0 or len(rows) == len(chosen):
            ceilings.append(machine.ceilings(program, cpus))
        times = ", ".join(f"{name} {1e6 * timing.median:.1f}" for name, timing in row.timings.items())
        refused = "".join(f"; {name}: {reason}" for name, reason in row.refused.items())
        seconds = time.perf_counter() - begin
        print(f"{len(cpus)} threads, {case} [{seconds:.0f} s], µs: {times}{refused}", file=sys.stderr, flush=True)
    for worker in workers:
        worker.close()
    return machine.best_ceilings(ceilings), rows


if __name__ == "__main__":
    sys.exit(main())
