"""Turns rows into RESULTS.md and results/<processor>.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import latency_report
from .cases import Inputs, mnist_path
from .latency import Latency
from .machine import HERE, slug
from .peers import CONTESTANTS, ENGINE, GPU_CONTESTANTS
from .rounds import Row
from .tables import refusals, time_text

SHOWN_BATCHES = {"train step": (16, 128, 1024), "decode": (1, 16, 128), "reconstruct": (1, 16, 128)}
# README.md's tables: what stands above each section's, and which of its rows it shows.
SUMMARY: dict[str, tuple[str, Callable[[dict], bool]]] = {
    "neural": (
        """float32, 784-400-20-400-784; medians, and how many times as long the best of PyTorch, torch.compile, JAX, ONNX
Runtime and NumPy takes.""",
        lambda record: record["batch"] in SHOWN_BATCHES.get(record["task"], ()),
    ),
    "linear": (
        """thin SVD and eigh of a whole batch, and PCA in float32; medians, and how many times as long the best of NumPy,
SciPy, PyTorch, JAX and scikit-learn takes.""",
        lambda record: "float64" not in record["data"],
    ),
}
TITLES = {"neural": "Neural models", "linear": "SVD, eigh and PCA", "latency": "Latency"}

NOTES = """\
* All contestants run the same network (784-400-(20+20), 20-400-784, ReLU, Bernoulli, Adam at 1e-3, float32) from the
  same weights (PyTorch's initialisation) on the same rows, each in a process of its own, pinned to as many cores as it
  has threads. They take turns, one sample each in every round; a process blocks, and has stopped spinning, while
  another is timed.
* `x peer` is the median over the rounds of the peer's time over latentcore's in the same round: above 1, latentcore is
  faster. `x best` is the smallest of them. Median and p99 are over all calls; a training call is several steps (8 at
  batch 16, 2 at 128).
* Nobody is timed before it is checked: inference against a float64 computation, training by its first loss (2 % of the
  float64 expectation), its decline, and its agreement with the others after 20 steps (3 %).
* A training step of latentcore also gathers its minibatch from the data set; the peers get one that is already
  gathered. In `epoch` everybody shuffles and gathers.
* Inputs and outputs live in each library's own arrays: no conversion is timed. All but eager PyTorch and NumPy hold a
  snapshot of the weights in inference. PyTorch flushes denormals, as latentcore and JAX do. torch.compile's inference
  is frozen and autotuned; its compile time is not counted.
* `floor` is the longer of the multiply-adds at the FMA peak and the bytes moved at the bandwidth of the cache level
  that holds the weights, the best of several measurements during this run; `x floor` is latentcore's median over it.
  The second counts no arithmetic for zero inputs of a layer (dark pixels, inactive ReLUs) and no weights that only
  zeros would meet.
* SVD and eigh: one call over the whole batch from an array to fresh arrays, all factors. SciPy is a loop over its LAPACK
  wrappers (gesdd; syevd to 32, syevr above), for a single matrix scipy.linalg. Checked in float64: values, product and
  orthonormality within 60 eps sqrt(max(m, n)). Their floor takes the operations of the usual algorithms (Golub and Van
  Loan).
* PCA: 50 components by the covariance of 60,000 rows of 784, by scikit-learn's `covariance_eigh` and by what one writes
  with NumPy, PyTorch or JAX; the codes of one row; all components of 1,000 groups of 50 x 8. Checked against float64.
"""

GPU_MARKS = "<!-- gpu results -->", "<!-- /gpu results -->"
NO_GPU = "No GPU was at hand: nothing is measured, and nothing is claimed. `bench/gpu.sh` measures on one."
GPU_NOTES = """\
* Arrays lie on the GPU before a call and stay there after it. A call is 200 training steps, or 200 passes, asked for one
  after another before anybody waits; times are a 200th of it, and p99 is of calls. Decompositions and fits are waited for
  one by one. Products of float32 matrices are full float32 everywhere.
* torch.compile stands for a compiled network in a captured CUDA graph, a whole training step with Adam in one; JAX runs all
  steps of a call in one program.
* `floor` is the longer of the work at the measured rate of products, and of its least traffic at that of copies through the
  cache, where the weights fit there, or through memory. GB/s and GFLOP/s are that least work over latentcore's median."""


def summarize(rows: list[Row], ceilings: dict[int, dict], inputs: Inputs) -> list[dict[str, Any]]:
    """One plain record for each row: times in seconds, ratios of the peers to latentcore, floors in seconds."""
    return [_record(row, ceilings[row.threads], inputs) for row in rows]


def write(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    """Write RESULTS.md, latency.png and results/<processor>.json under `folder`. made: by section "machine", "versions",
    "command", "ceilings" and "rows". A section that is not in it keeps what an earlier run wrote."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    about = next((run["machine"] for run in made.values()), None)
    if about is None:
        return
    path = folder / "results" / f"{slug(about)}.json"
    sections = (json.loads(path.read_text()) if path.exists() else {}) | made
    path.write_text(json.dumps(sections, indent=1) + "\n")
    if "latency" in made:
        latency_report.plot(folder / "latency.png", made["latency"])
    (folder / "RESULTS.md").write_text(with_gpu_part(markdown(sections), folder))
    readme = folder.parent / "README.md"
    if folder == HERE and readme.exists():
        readme.write_text(with_summary(readme.read_text(), sections))


def with_summary(text: str, sections: dict[str, dict]) -> str:
    """README.md with the tables between their marks made anew."""
    for name, run in sections.items():
        marks = f"<!-- {name} results -->", f"<!-- /{name} results -->"
        lines = latency_report.summary(run) if name == "latency" else _summary(name, run)
        table = "\n".join([marks[0], *lines, marks[1]])
        text = re.sub(f"{marks[0]}.*{marks[1]}", lambda _, table=table: table, text, flags=re.DOTALL)
    return text


def _summary(name: str, run: dict[str, Any]) -> list[str]:
    about, chosen = SUMMARY[name]
    by_row: dict[str, dict[int, str]] = {}
    for record in filter(chosen, run["rows"]):
        timed = record["contestants"]
        best = min((peer for peer in timed if peer != ENGINE), key=lambda peer: timed[peer]["ratio"])
        cell = f"{time_text(timed[ENGINE]['median'])} | **{timed[best]['ratio']:.2f}×** {best}"
        by_row.setdefault(f"{record['task']}, {record['data']}, batch {record['batch']}", {})[record["threads"]] = cell
    threads = sorted({record["threads"] for record in run["rows"]})
    return [
        f"{run['machine']['cpu']} (family.model {run['machine']['family']}), {run['machine']['date']}, {about}",
        "",
        "| work | " + " | ".join(f"{n} thread{'s' * (n > 1)} | best peer" for n in threads) + " |",
        "|---|" + "--:|---|" * len(threads),
        *(f"| {row} | " + " | ".join(cells.get(n, " | ") for n in threads) + " |" for row, cells in by_row.items()),
    ]


def markdown(sections: dict[str, dict]) -> str:
    """The tables, for a person to read."""
    data = "MNIST's training images" if mnist_path() else "synthetic rows with 81 % zeros, for want of MNIST"
    parts = ["# Benchmarks"]
    for name, title in TITLES.items():
        if name not in sections:
            continue
        run, machine = sections[name], sections[name]["machine"]
        peers = ", ".join(f"{peer} {version}" for peer, version in run["versions"].items())
        when = f"`{run['command']}`, commit {machine['commit']}, {machine['date']}."
        busy = f"Other processes kept {machine['neighbours']:.2f} CPUs busy meanwhile."
        where = f"{machine['cpu']} (family.model {machine['family']}), {machine['cores']} cores, {machine['system']}"
        parts += [f"## {title}", f"{when} {busy}", f"{where}, Python {machine['python']}; {peers}."]
        for limits in run["ceilings"]:
            threads = limits["threads"]
            levels = ", ".join(f"{level['name']} {level['gbps']:.0f} GB/s" for level in limits["levels"])
            peak = f"{limits['fma_gflops']:.0f} GFLOP/s in {8 * limits['vector_bytes']}-bit vectors"
            parts += [
                f"### {title}, {threads} thread{'s' * (threads > 1)}",
                f"Ceilings: float32 multiply-adds {peak}; reads {levels}.",
                (latency_report.tables if name == "latency" else _table)(
                    [record for record in run["rows"] if record["threads"] == threads]
                ),
            ]
    return "\n\n".join([*parts, "## How to read it", f"* Rows called mnist: {data}.\n{NOTES}", latency_report.NOTES])


def with_gpu_part(text: str, folder: Path) -> str:
    """RESULTS.md with the GPU's tables between their marks made anew."""
    before = text.partition(GPU_MARKS[0])[0].rstrip()
    return "\n".join([before, "", GPU_MARKS[0], gpu_part(folder), GPU_MARKS[1], ""])


def gpu_part(folder: Path) -> str:
    """The tables of every GPU that results/ knows, for a person to read."""
    parts = ["## On a GPU"]
    found = [json.loads(path.read_text()) for path in sorted((folder / "results").glob("*.json"))]
    for run in (one["gpu"] for one in found if "gpu" in one):
        about, limits = run["machine"], run["ceilings"]
        peers = ", ".join(f"{peer} {version}" for peer, version in run["versions"].items())
        reached = ", ".join(f"{level['name']} {level['gbps']:.0f} GB/s" for level in limits["levels"])
        parts += [
            f"### {about['gpu']}",
            f"`{run['command']}`, commit {about['commit']}, {about['date']}.",
            f"Driver {about['driver']}, {about['cpu']}, Python {about['python']}; {peers}.",
            f"Ceilings: float32 products {limits['fma_gflops']:.0f} GFLOP/s; copies through {reached}.",
            _gpu_table(run["rows"], limits),
        ]
    return "\n\n".join([*parts, GPU_NOTES] if len(parts) > 1 else [*parts, NO_GPU])


def _gpu_table(records: list[dict], limits: dict) -> str:
    peers = [name for name in GPU_CONTESTANTS if name != ENGINE and any(name in r["contestants"] for r in records)]
    header = ["work", "rows", "batch", ENGINE, "p99", "best peer", "x best", *(f"x {peer}" for peer in peers)]
    header += ["floor", "x floor", "GB/s", "of memory's", "GFLOP/s", "of products'"]
    lines = ["| " + " | ".join(header) + " |", "|---|---|" + "--:|" * (len(header) - 2)]
    for record in records:
        cells = _cells(record, peers)[:-1]
        if ours := record["contestants"].get(ENGINE):
            moved, done = 1e-9 * record["bytes"] / ours["median"], 1e-9 * record["flops"] / ours["median"]
            most = limits["levels"][-1]["gbps"], limits["fma_gflops"]
            cells += [f"{moved:.0f}", f"{moved / most[0]:.0%}", f"{done:.0f}", f"{done / most[1]:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *[""][: len(records)], *refusals(records)])


def _record(row: Row, limits: dict, inputs: Inputs) -> dict[str, Any]:
    ours = row.timings.get(ENGINE)
    record: dict[str, Any] = {
        "task": row.case.task + (" (32-32-8)" if "tiny" in str(row.case) else ""),
        "section": row.case.section,
        "data": row.case.data,
        "batch": row.case.batch,
        "threads": row.threads,
        "floor": row.case.work(inputs, skip_zeros=False).floor(limits),
        "floor_nonzero": row.case.work(inputs, skip_zeros=True).floor(limits),
        "contestants": {},
        "refused": row.refused,
    }
    if isinstance(row.case, Latency):
        record |= latency_report.details(row.case, limits, inputs)
    for name, timing in row.timings.items():
        entry: dict[str, Any] = {
            "median": timing.median,
            "p99": timing.p99,
            "calls": sum(len(sample) for sample in timing.samples),
            "rounds": len(timing.samples),
            "busy": float(np.median(timing.busy)) if timing.busy else None,
        }
        if ours is not None and name != ENGINE:
            low, middle, high = np.percentile(timing.rounds() / ours.rounds(), (25, 50, 75))
            entry |= {"ratio": middle, "ratio_quartiles": [low, high]}
        if isinstance(row.case, Latency):
            entry |= latency_report.tail(timing)
        record["contestants"][name] = entry
    return record


def _table(records: list[dict]) -> str:
    peers = [name for name in CONTESTANTS if name != ENGINE and any(name in r["contestants"] for r in records)]
    times = "x " if any(ENGINE in record["contestants"] for record in records) else ""
    header = ["work", "rows", "batch", ENGINE, "p99", "best peer", "x best", *(f"{times}{peer}" for peer in peers)]
    header += ["floor", "x floor", "x floor without zeros"]
    lines = ["| " + " | ".join(header) + " |", "|---|---|" + "--:|" * (len(header) - 2)]
    lines += ["| " + " | ".join(_cells(record, peers)) + " |" for record in records]
    return "\n".join([*lines, *[""][: len(records)], *refusals(records)])


def _cells(record: dict, peers: list[str]) -> list[str]:
    timed = record["contestants"]
    ours = timed.get(ENGINE)
    cells = [record["task"], record["data"], str(record["batch"])]
    cells += [time_text(ours["median"]), time_text(ours["p99"])] if ours else ["", ""]
    rivals = [name for name in peers if name in timed]
    best = min(rivals, key=lambda name: timed[name].get("ratio", timed[name]["median"]), default=None)
    cells.append(f"{best} {time_text(timed[best]['median'])}" if best else "")
    cells.append(f"**{timed[best]['ratio']:.2f}**" if best and ours else "")
    for name in peers:
        entry = timed.get(name)
        cells.append("" if entry is None else f"{entry['ratio']:.2f}" if ours else time_text(entry["median"]))
    cells.append(time_text(record["floor"]))
    return cells + [f"{ours['median'] / record[key]:.2f}" if ours else "" for key in ("floor", "floor_nonzero")]
