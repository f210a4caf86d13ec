"""`python -m bench`: time everything, print the tables, and write RESULTS.md and results/ when the run was whole."""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine, native, report
from .cases import Inputs, cases
from .latency import Latency, latency_cases
from .linear import linear_cases
from .peers import CONTESTANTS, ENGINE, LATENCY_CONTESTANTS
from .rounds import QUICK, AnyCase, Effort, Row, Worker, measure, measure_starts


def main() -> int:
    """Run the benchmarks; 1 if latentcore failed or was refused in a row, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few, short samples")
    parser.add_argument("--section", choices=report.TITLES, help="one of them; the others' results stay")
    parser.add_argument("--only", metavar="PATTERN", help="rows that match, as 'decode*' or 'train step mnist 128'")
    parser.add_argument("--threads", metavar="N,N", help="numbers of threads (default: 1,2 as far as there are cores)")
    parser.add_argument("--contestants", metavar="NAME,NAME", help=f"of {', '.join([*CONTESTANTS, *LATENCY_CONTESTANTS])}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: bench/, if all rows ran)")
    options = parser.parse_args()

    cores = machine.cores()
    counts = [int(n) for n in options.threads.split(",")] if options.threads else [n for n in (1, 2) if n <= len(cores)]
    everybody = list(dict.fromkeys([*CONTESTANTS, *LATENCY_CONTESTANTS]))
    versions = machine.installed(everybody)
    names = options.contestants.split(",") if options.contestants else everybody
    for name in names:
        if name not in everybody:
            parser.error(f"--contestants: {name!r} is none of {', '.join(everybody)}")
        if name not in versions:
            print(f"{name} is not installed and takes no part", file=sys.stderr)
    names = [name for name in names if name in versions]
    if not names or not counts or not 1 <= min(counts) <= max(counts) <= len(cores):
        parser.error(f"nothing to run: {len(cores)} cores, contestants installed: {', '.join(versions)}")
    rows = {"neural": cases(), "linear": linear_cases(), "latency": latency_cases()}
    chosen = {
        section: [case for case in rows[section] if fnmatch.fnmatch(str(case), options.only or "*")]
        for section in rows
        if options.section in (None, section)
    }
    if chosen.get("latency"):
        _build_native()

    about, begin, spent = machine.describe(), time.perf_counter(), machine.processor_seconds()
    sections, failed = {}, False
    with tempfile.TemporaryDirectory(prefix="latentcore-bench-") as scratch:
        inputs = Inputs.write(Path(scratch))
        program = machine.build_ceilings(Path(scratch))
        for section, cases_ in chosen.items():
            taking = [name for name in (LATENCY_CONTESTANTS if section == "latency" else CONTESTANTS) if name in names]
            limits, measured = {}, []
            for count in counts if cases_ and taking else ():
                effort = QUICK if options.quick else Effort()
                mine = [case for case in cases_ if not isinstance(case, Latency) or case.both or count == counts[0]]
                limits[count], more = _run(mine, taking, cores[:count], inputs, effort, program)
                measured += more
            if measured:
                run = {"versions": {name: versions[name] for name in taking}, "ceilings": list(limits.values())}
                sections[section] = run | {"rows": report.summarize(measured, limits, inputs)}
                failed |= any(ENGINE in row.refused for row in measured)
        everything, own = (after - before for after, before in zip(machine.processor_seconds(), spent, strict=True))
        about["neighbours"] = round(max(0.0, everything - own) / (time.perf_counter() - begin), 2)
    command = " ".join(["python -m bench", *sys.argv[1:]])
    sections = {section: {"machine": about, "command": command, **run} for section, run in sections.items()}
    whole = not (options.quick or options.only or options.threads or options.contestants) and ENGINE in names
    if whole or options.output:
        report.write(options.output or machine.HERE, sections)
    print(report.markdown(sections))
    return int(failed)


def _build_native() -> None:
    print("the C library is compiled", file=sys.stderr, flush=True)
    try:
        native.build()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"nobody is timed from C: {error}", file=sys.stderr)


def _run(
    chosen: list[AnyCase], names: list[str], cpus: list[int], inputs: Inputs, effort: Effort, program: Path
) -> tuple[dict, list[Row]]:
    """The ceilings and the rows for as many threads as cpus."""
    ceilings, rows = [machine.ceilings(program, cpus)], []
    workers = [Worker(name, cpus, inputs) for name in names]
    for case in chosen:
        begin = time.perf_counter()
        starts = isinstance(case, Latency) and case.starts
        row = (measure_starts if starts else measure)(case, workers, inputs, effort)
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
