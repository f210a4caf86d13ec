"""`python -m bench.sweep`: SVD and eigh of every size beside the peers; writes SWEEP.md, sweep.png and results/."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import machine
from .cases import Inputs
from .linear import Decomposition
from .peers import ENGINE
from .rounds import Effort, Worker, measure

SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 33, 48, 64, 96, 128, 192, 256)
SHAPES = {"square": (1, 1), "tall 2:1": (2, 1), "tall 10:1": (10, 1), "wide 1:10": (1, 10)}
RIVALS = ("NumPy", "SciPy", "torch", "JAX")
EFFORT = Effort(rounds=3, sample_seconds=0.002, most_calls=200)


def sweep_cases(sizes: tuple[int, ...], single: bool) -> list[tuple[str, Decomposition]]:
    """The kind of each row and the row: batches that last a peer about 30 ms, or single matrices."""
    rows = []
    for kind, (tall, wide) in [*SHAPES.items(), ("eigh", (1, 1))]:
        for dtype in ("float32", "float64"):
            for n in sizes:
                seconds = 4e-6 + 1.5e-9 * tall * wide * n**3  # about what a peer takes for a matrix
                batch = 1 if single else max(4, min(4096, int(0.03 / seconds) // 32 * 32))
                rows.append((kind, Decomposition("eigh" if kind == "eigh" else "svd", batch, tall * n, wide * n, dtype)))
    return rows


def main() -> int:
    """Run the sweep; 1 if latentcore was refused anywhere, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--sizes", help="as 2,8,64 (default: all)")
    parser.add_argument("--threads", default="1,2", metavar="N,N")
    parser.add_argument("--output", type=Path, help="where to write (default: bench/, if all sizes ran)")
    options = parser.parse_args()
    sizes = tuple(map(int, options.sizes.split(","))) if options.sizes else SIZES
    cores, versions = machine.cores(), machine.installed()
    names = [name for name in (ENGINE, *RIVALS) if name in versions]
    counts = [n for n in map(int, options.threads.split(",")) if n <= len(cores)]
    about, records, refused = machine.describe(), [], False
    with tempfile.TemporaryDirectory(prefix="latentcore-sweep-") as scratch:
        inputs = Inputs(Path(scratch))
        for count in counts:
            workers = [Worker(name, cores[:count], inputs) for name in names]
            for single in (False, True):
                for kind, case in sweep_cases(sizes, single):
                    row = measure(case, workers, inputs, EFFORT)
                    refused |= ENGINE in row.refused
                    times = {name: timing.median for name, timing in row.timings.items()}
                    ratios = {
                        name: float(np.median(timing.rounds() / row.timings[ENGINE].rounds()))
                        for name, timing in row.timings.items()
                        if name != ENGINE and ENGINE in row.timings
                    }
                    record = {"kind": kind, **vars(case), "threads": count, "seconds": times, "ratios": ratios}
                    records.append(record | ({"refused": row.refused} if row.refused else {}))
                    rival = min(ratios, key=lambda name: ratios[name], default="nobody")
                    text = f"{1e6 * times.get(ENGINE, np.nan):.1f} µs, x {ratios.get(rival, np.nan):.2f} {rival}"
                    print(f"{count} threads, {case}: {text}", row.refused or "", file=sys.stderr, flush=True)
            for worker in workers:
                worker.close()
    output = options.output or (None if options.sizes or options.threads != "1,2" else machine.HERE)
    if output:
        write(output, about, {name: versions[name] for name in names}, records)
    print(table(records))
    return int(refused)


def write(folder: Path, about: dict[str, Any], versions: dict[str, str], records: list[dict[str, Any]]) -> None:
    """Write SWEEP.md, sweep.png and results/<processor>-sweep.json under `folder`."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    document = {"machine": about, "versions": versions, "rows": records}
    (folder / "results" / f"{machine.slug(about)}-sweep.json").write_text(json.dumps(document, indent=1) + "\n")
    plot(folder / "sweep.png", records)
    against = ", ".join(f"{name} {version}" for name, version in versions.items())
    head = (
        f"# SVD and eigh of every size\n\n`python -m bench.sweep`, commit {about['commit']}, {about['date']}. "
        f"{about['cpu']} (family.model {about['family']}); {against}.\n\n"
        "How many times as long the fastest of the peers takes, interleaved in one run, median of "
        f"{EFFORT.rounds} rounds; each is checked against float64 first. n is the shorter side.\n\n![sweep](sweep.png)\n\n"
    )
    (folder / "SWEEP.md").write_text(head + table(records) + "\n")


def best(record: dict[str, Any]) -> float:
    """The best peer's time over latentcore's."""
    return min(record["ratios"].values(), default=float("nan"))


def table(records: list[dict[str, Any]]) -> str:
    """A line for each size, a column for each kind of row."""
    columns = sorted({(r["threads"], r["batch"] == 1, r["dtype"]) for r in records})
    parts = []
    for threads, single, dtype in columns:
        chosen = [r for r in records if (r["threads"], r["batch"] == 1, r["dtype"]) == (threads, single, dtype)]
        kinds = list(dict.fromkeys(r["kind"] for r in chosen))
        found = {(r["kind"], min(r["m"], r["n"])): best(r) for r in chosen}
        what = "one matrix" if single else "a batch"
        parts.append(f"## {what}, {dtype}, {threads} thread{'s' * (threads > 1)}\n")
        parts += ["| n | " + " | ".join(kinds) + " |", "|--:|" + "--:|" * len(kinds)]
        for n in dict.fromkeys(n for _, n in found):
            parts.append(f"| {n} | " + " | ".join(f"{found[kind, n]:.2f}" for kind in kinds) + " |")
        parts.append("")
    return "\n".join(parts)


def plot(path: Path, records: list[dict[str, Any]]) -> None:
    """Ratio over size: a panel for each precision, for batches and for single matrices."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(11, 8), sharex=True, sharey="row", layout="constrained")
    for row, single in enumerate((False, True)):
        for column, dtype in enumerate(("float32", "float64")):
            axis = grid[row][column]
            for number, kind in enumerate([*SHAPES, "eigh"]):
                for threads, style in ((1, "-"), (2, ":")):
                    points = [
                        (min(r["m"], r["n"]), best(r))
                        for r in records
                        if (r["kind"], r["threads"], r["dtype"], r["batch"] == 1) == (kind, threads, dtype, single)
                    ]
                    if points:
                        label = f"{'' if kind == 'eigh' else 'SVD, '}{kind}" if threads == 1 else None
                        axis.plot(*zip(*sorted(points)), style, color=f"C{number}", label=label, marker=".", markersize=4)
            axis.axhline(1, color="black", linewidth=0.8)
            axis.set(xscale="log", yscale="log", title=f"{'one matrix' if single else 'a batch'}, {dtype}")
            axis.set_xticks([2, 4, 8, 16, 32, 64, 128, 256], labels=["2", "4", "8", "16", "32", "64", "128", "256"])
            axis.set_yticks([1, 2, 5, 10, 20, 50][: 4 if single else 6])
            axis.set_yticks([], minor=True)
            axis.yaxis.set_major_formatter("{x:g}×")
            axis.grid(alpha=0.3)
    grid[0][0].legend(fontsize=8)
    grid[1][0].set_xlabel("shorter side")
    grid[1][1].set_xlabel("shorter side")
    figure.suptitle("Time of the best of NumPy, SciPy, PyTorch and JAX over latentcore's (solid 1 thread, dotted 2)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
