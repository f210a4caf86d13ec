"""`python -m bench.out_of_core`: IncrementalPCA over a file larger than what it may hold; writes results/out_of_core.json.

A file of float32 is written to a temporary folder, read plainly (np.sum over the memory map, one thread), and fitted; each
once after it was dropped from the page cache ("disk") and once out of it ("cache"). Memory is RssAnon, what the process
holds beyond the page cache, sampled every few milliseconds."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import latentcore as lc

from . import machine

ALLOWED = 500
"""Megabytes that a fit may hold beyond the page cache."""


def main() -> int:
    """Write the file, read it, fit it; 1 if a fit held more than is allowed or missed the variances, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.out_of_core", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="where the file is written for a while (default: the system's)")
    parser.add_argument("--output", type=Path, default=machine.HERE / "results", metavar="DIR")
    options = parser.parse_args()

    rows = int(options.gigabytes * 1e9) // (4 * options.features)
    scale = np.linspace(2, 1, options.features, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="latentcore-bench-", dir=options.folder) as folder:
        path = Path(folder) / "data"
        _write(path, rows, scale)
        pca = lc.IncrementalPCA(options.components)
        passes = [
            _measure(what, source, path, options.features, call)
            for what, call in (("np.sum", np.sum), ("IncrementalPCA.fit", pca.fit))
            for source in ("disk", "cache")
        ]
    off = float(np.abs(pca.var_ / (scale.astype(np.float64) ** 2 / 12) - 1).max())
    held = max(one["peak_mb"] for one in passes[2:])

    print(f"{rows:,} rows of {options.features} features, {rows * options.features * 4 / 1e9:.2f} GB")
    print(f"{'pass':<20}{'from':<7}{'seconds':>8}{'GB/s':>8}{'RssAnon before':>16}{'peak, MB':>10}")
    for one in passes:
        print(
            f"{one['what']:<20}{one['source']:<7}{one['seconds']:>8.2f}{one['gb_per_second']:>8.2f}{one['before_mb']:>16.0f}"
            f"{one['peak_mb']:>10.0f}"
        )
    document = {
        "machine": machine.describe(),
        "threads": lc.get_num_threads(),
        "rows": rows,
        "features": options.features,
        "components": options.components,
        "passes": passes,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "out_of_core.json").write_text(json.dumps(document, indent=1) + "\n")
    if held >= ALLOWED:
        print(f"a fit held {held:.0f} MB, allowed {ALLOWED}")
    if off > 0.02:
        print(f"a variance is off by {off:.1%}")
    return int(held >= ALLOWED or off > 0.02)


def _write(path: Path, rows: int, scale: np.ndarray) -> None:
    """Uniform numbers in [0, scale) of each column."""
    rng, chunk = np.random.default_rng(0), 1 << 16
    with path.open("wb") as file:
        for begin in range(0, rows, chunk):
            (rng.random((min(chunk, rows - begin), len(scale)), np.float32) * scale).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def _measure(what: str, source: str, path: Path, features: int, call: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """One pass over the file, which nobody else maps: what is mapped stays in the page cache."""
    if source == "disk":
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    data = np.memmap(path, np.float32, "r").reshape(-1, features)
    before = peak = _anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.perf_counter()
    try:
        call(data)
    finally:
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
    return {
        "what": what,
        "source": source,
        "seconds": seconds,
        "gb_per_second": path.stat().st_size / 1e9 / seconds,
        "before_mb": before / 1e6,
        "peak_mb": peak / 1e6,
    }


def _anonymous() -> int:
    """Bytes that this process holds beyond the page cache."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


if __name__ == "__main__":
    raise SystemExit(main())
