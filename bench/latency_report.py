"""The tables and the plot of the latency section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Inputs
from .latency import ITEM, NAMES, STARTS, Latency
from .network import DEEP
from .peers import ENGINE, LATENCY_CONTESTANTS
from .rounds import Timing
from .tables import refusals, table, time_text

OURS = {weights: ENGINE if weights == "float32" else f"{ENGINE} {weights}" for weights in ITEM}
OURS_C = {weights: name.replace(ENGINE, f"{ENGINE} C") for weights, name in OURS.items()}
PEER_C, PEER_INT8 = "ONNX Runtime C", "ONNX Runtime int8"
PEERS = [name for name in LATENCY_CONTESTANTS if ENGINE not in name and name not in (PEER_C, PEER_INT8)]
"""Those whose weights are float32, called from Python."""

STATES = {
    "warm": "warm, alone",
    "flushed": "caches flushed",
    "busy": "beside a busy thread",
    STARTS[0]: STARTS[0],
    STARTS[1]: STARTS[1],
}
ENOUGH = 10_000
"""Calls that a p99.9 needs."""

SAVED = {
    ENGINE: ".safetensors",
    f"{ENGINE} C": ".safetensors",
    "torch": "state_dict",
    "torch.compile": "AOTInductor package",
}
SAVED |= {"JAX": "jax.export", "ONNX Runtime": ".onnx", "ONNX Runtime C": ".onnx"}

NOTES = """\
* Latency: single calls, each with the next of 16 inputs (4 at batch 16, 1 at 128) in each library's own arrays, which were
  made beforehand; 100,000 calls in 5 rounds, or as many as 1.75 s allow (1.3 s with flushed caches or a busy thread,
  0.35 s beyond batch 1), stated where they are fewer. Python's garbage collector is off. What an empty function takes in the
  same loop is subtracted. Medians of calls under 5 µs are over timings of many calls together; p99, p99.9 and worst are of
  single calls always. There is no p99.9 of fewer than 10,000 calls.
* Weights of latentcore are float32, float16 or int8, under float32 arithmetic: compared with the peers' float32 (`x` is the
  best of them over latentcore, of medians in the same round); int8_dynamic, which rounds rows to eight bits as well, with
  ONNX Runtime's dynamic int8, which does the same. Outputs are checked against float64 within 10 eps sqrt(length) of the
  largest, float16 within 2e-3, both int8 within 3e-2.
* In brackets: the time over its floor, which is the longer of the multiply-adds at the FMA peak and the bytes of weights
  that nonzero inputs need at the bandwidth of the cache level that holds them (main memory, if caches are flushed). Of both
  dynamic int8, all of the multiply-adds at four times that peak, and all of the weights.
* C: `bench/latency.cpp`, a process without Python, on latentcore.h and on the C API of the library in ONNX Runtime's wheel
  (whose headers are not in it: the functions used are declared by hand), both through preallocated arrays.
* Caches are flushed by reading twice the last level's size on every core before each call. The busy thread counts in pure
  Python in the same process, on any core. A call that gives up Python's global lock may wait for that thread's 5 ms
  switch interval to get it back; latentcore keeps it in calls under about 100 µs.
* torch.compile, autotuned, takes up to a minute to compile: it is timed in some rows at batch 1 and one thread.
* Fresh process: from the first import to the first decoded code, from a saved file, after the interpreter's own start; files
  are in memory and bytecode is compiled. In C from main on. JAX compiles when it loads."""
FPGA = "256-384-384-128 on an FPGA, as published (measured elsewhere): 4.0 µs mean, 4.7 µs p99. Here, one row on one"


def details(case: Latency, limits: dict, inputs: Inputs) -> dict[str, Any]:
    """What a record of this section has besides: its network and state, and the floor of each kind of weights."""
    floors = {
        weights: case.work(inputs, skip_zeros=True, weights=weights).floor(limits, cold=case.state == "flushed")
        for weights in ITEM
    }
    return {"network": NAMES[case.network], "state": case.state, "floors": floors}


def tail(timing: Timing) -> dict[str, Any]:
    """What a contestant's entry has besides."""
    calls = np.concatenate(timing.samples)
    return {
        "mean": float(calls.mean()),
        "p999": timing.percentile(99.9) if len(calls) >= ENOUGH else None,
        "worst": float(calls.max()),
        "round_medians": timing.rounds().tolist(),
    }


def tables(records: Sequence[dict]) -> str:
    """The tables of one number of threads."""
    warm = [r for r in records if r["state"] == "warm"]
    single = [r for r in records if r["batch"] == 1 and r["state"] not in STARTS]
    starts = [r for r in records if r["state"] in STARTS]
    parts = []
    if warm:
        header = ["work", "rows", "batch", *OURS, "best peer", *(f"x {w}" for w in OURS)]
        header += [*(f"{w}, C" for w in OURS_C), PEER_C, "x float32, C", PEER_INT8, *PEERS]
        parts += ["Medians, warm and alone:", table(header, [_medians(r) for r in warm], 2)]
    if single:
        names = [name for name in LATENCY_CONTESTANTS if any(name in r["contestants"] for r in single)]
        lines = [[_work(r), STATES[r["state"]], *(_tail_cell(r, name) for name in names)] for r in single]
        parts += ["Batch 1, µs, median / p99 / p99.9 / worst:", table(["work", "state", *names], lines, 2)]
    if starts:
        parts += ["A fresh process, to its first decoded code:", _starts(starts)]
    for record in warm:
        if record["network"] == NAMES[DEEP] and record["batch"] == 1 and record["threads"] == 1:
            found = [(n, record["contestants"].get(n)) for n in (*OURS.values(), *OURS_C.values())]
            told = [f"{n} {1e6 * e['mean']:.2f} µs mean, {1e6 * e['p99']:.2f} µs p99" for n, e in found if e]
            parts.append(f"{FPGA} thread: {'; '.join(told)}.")
    return "\n\n".join(parts + ["  \n".join(refusals(records))] * bool(refusals(records)))


def summary(run: dict[str, Any]) -> list[str]:
    """The lines of README.md."""
    shown = [r for r in run["rows"] if r["batch"] == 1 and r["threads"] == 1 and r["state"] in ("warm", "flushed", "busy")]
    lines = []
    for record in shown:
        best = _best(record)
        if best is None or ENGINE not in record["contestants"]:
            continue
        cells = [_work(record), STATES[record["state"]], *(_median(record, name) for name in OURS.values())]
        cells += [_median(record, OURS_C["float32"]), _worst(record, ENGINE), f"{best} {_median(record, best)}"]
        medians = [record["contestants"][name]["median"] for name in (best, ENGINE)]
        lines.append([*cells, f"**{medians[0] / medians[1]:.2f}×**", _worst(record, best)])
    header = ["one row, one thread", "state", *OURS, "float32 from C", "p99.9", "best peer", "takes", "its p99.9"]
    about = run["machine"]
    return [
        f"{about['cpu']} (family.model {about['family']}), {about['date']}, single calls from Python: medians, and the time",
        "that 999 of 1000 calls stay under (the worst, of fewer than 10,000 calls). The best of PyTorch, torch.compile,",
        "JAX, ONNX Runtime and NumPy, in float32, and its median over that of latentcore's float32.",
        "",
        *table(header, lines, 2).splitlines(),
    ]


def plot(path: Path, run: dict[str, Any]) -> None:
    """A panel for each work and state at batch 1 and one thread: median, p99, p99.9 and worst of each contestant."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in run["rows"] if r["batch"] == 1 and r["threads"] == 1]
    states = ["warm", "flushed", "busy"]
    works = list(dict.fromkeys(_work(r) for r in rows if r["state"] == "flushed"))
    if not works:
        return
    names = [name for name in LATENCY_CONTESTANTS if any(name in r["contestants"] for r in rows)]
    figure, grid = plt.subplots(
        len(works), 3, figsize=(13, 4.2 * len(works)), sharey=True, squeeze=False, layout="constrained"
    )
    for record in rows:
        if record["state"] not in states or _work(record) not in works:
            continue
        axis = grid[works.index(_work(record))][states.index(record["state"])]
        for place, name in enumerate(reversed(names)):
            entry = record["contestants"].get(name)
            if entry is None:
                continue
            colour = "C3" if ENGINE in name else "C0"
            points = {"o": entry["median"], "|": entry["p99"], "D": entry["p999"], "x": entry["worst"]}
            axis.plot([1e6 * entry["median"], 1e6 * entry["worst"]], [place, place], color=colour, alpha=0.35)
            for marker, seconds in points.items():
                if seconds is not None:
                    axis.plot(1e6 * seconds, place, marker, color=colour, markersize=9 if marker == "|" else 5)
        axis.set_xscale("log")
        axis.set_title(f"{_work(record)}\n{STATES[record['state']]}", fontsize=9)
        axis.xaxis.set_minor_formatter("")
        axis.set_yticks(range(len(names)), labels=list(reversed(names)))
        axis.grid(alpha=0.3, axis="x", which="both")
    for axis in grid[-1]:
        axis.set_xlabel("µs")
    figure.suptitle("One row, one thread: median (dot), p99 (bar), p99.9 (diamond) and worst (cross) of single calls")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _work(record: dict) -> str:
    return f"{record['task']} {record['network']}, {record['data']}"


def _best(record: dict) -> str | None:
    timed = record["contestants"]
    return min((name for name in PEERS if name in timed), key=lambda name: timed[name]["median"], default=None)


def _ratio(record: dict, over: str, under: str) -> float:
    """The median over the rounds of one contestant's median over another's."""
    a, b = (np.array(record["contestants"][name]["round_medians"]) for name in (over, under))
    return float(np.median(a / b))


def _median(record: dict, name: str) -> str:
    entry = record["contestants"].get(name)
    return time_text(entry["median"]) if entry else ""


def _worst(record: dict, name: str) -> str:
    entry = record["contestants"][name]
    return time_text(entry["worst"] if entry["p999"] is None else entry["p999"])


def _medians(record: dict) -> list[str]:
    timed, best = record["contestants"], _best(record)

    def floored(name: str, weights: str) -> str:
        return f"{_median(record, name)} ({timed[name]['median'] / record['floors'][weights]:.1f})" if name in timed else ""

    def faster(peer: str | None, name: str) -> str:
        return f"**{_ratio(record, peer, name):.2f}**" if peer in timed and name in timed else ""

    cells = [_work(record).partition(",")[0], record["data"], str(record["batch"])]
    cells += [floored(name, weights) for weights, name in OURS.items()]
    cells += [f"{best} {_median(record, best)}" if best else ""]
    cells += [faster(PEER_INT8 if weights == "int8_dynamic" else best, name) for weights, name in OURS.items()]
    cells += [floored(name, weights) for weights, name in OURS_C.items()]
    cells += [floored(PEER_C, "float32"), faster(PEER_C, OURS_C["float32"]), floored(PEER_INT8, "int8_dynamic")]
    return cells + [floored(name, "float32") for name in PEERS]


def _tail_cell(record: dict, name: str) -> str:
    entry = record["contestants"].get(name)
    if entry is None:
        return ""
    shown = [entry[key] for key in ("median", "p99", "p999", "worst")]
    text = " / ".join("–" if seconds is None else f"{1e6 * seconds:.3g}" for seconds in shown)
    return text if entry["calls"] >= 100_000 else f"{text} ({entry['calls']} calls)"


def _starts(records: Sequence[dict]) -> str:
    names = [name for name in LATENCY_CONTESTANTS if any(name in r["contestants"] for r in records)]
    found = {r["state"]: r for r in records}
    lines = [
        [name, SAVED[name], *(_median(found[state], name) if state in found else "" for state in STARTS)] for name in names
    ]
    return table(["contestant", "saved as", "NumPy's import counted, if it is needed", "NumPy imported before"], lines, 2)
