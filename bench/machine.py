"""What the numbers were measured on: processor, versions, commit, and the ceilings of the machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .peers import CONTESTANTS, PACKAGES

HERE = Path(__file__).parent


def cores() -> list[int]:
    """One CPU number for each physical core that this process may use."""
    first: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    return list(first.values())


def installed(contestants: Iterable[str] = CONTESTANTS, python: str = sys.executable) -> dict[str, str]:
    """The version of every contestant that is installed for that Python, by contestant."""
    packages = {name: PACKAGES[name] for name in contestants}
    program = """
import importlib.metadata, json, sys
versions = {}
for name, package in json.loads(sys.argv[1]).items():
    try:
        versions[name] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        continue
print(json.dumps(versions))
"""
    return json.loads(_output([python, "-c", program, json.dumps(packages)]))


def describe() -> dict[str, str | int | float]:
    """The processor, the system and the commit."""
    text = Path("/proc/cpuinfo").read_text()
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
    return {
        "cpu": facts.get("model name", platform.processor()),
        "family": f"{facts.get('cpu family', '?')}.{facts.get('model', '?')}",
        "cores": len(cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiler": _output(["c++", "--version"]).splitlines()[0],
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def slug(machine: dict[str, str | int | float]) -> str:
    """A file name for the processor."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['family']}".lower()).strip("-")


def processor_seconds() -> tuple[float, float]:
    """Processor time spent so far by everybody on the machine, and by this process and its ended children."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    mine = os.times()
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own


def build_ceilings(folder: Path) -> Path:
    """Compile ceilings.cpp for this machine."""
    program = folder / "ceilings"
    command = ["c++", "-O3", "-march=native", "-pthread", "-o", str(program), str(HERE / "ceilings.cpp")]
    subprocess.run(command, check=True)
    return program


def ceilings(program: Path, cpus: list[int]) -> dict:
    """FMA peak (GFLOP/s) and read bandwidth of each level (GB/s), with a thread on each of cpus."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        return json.loads(_output([str(program), str(len(cpus))]))
    finally:
        os.sched_setaffinity(0, mine)


def best_ceilings(measured: list[dict]) -> dict:
    """The highest of every ceiling over several measurements: a neighbour can only lower one."""
    best = dict(measured[0], fma_gflops=max(one["fma_gflops"] for one in measured))
    levels = zip(*(one["levels"] for one in measured), strict=True)
    best["levels"] = [max(level, key=lambda one: one["gbps"]) for level in levels]
    return best


def _commit() -> str:
    try:
        commit = _output(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]).strip()
        changed = _output(["git", "-C", str(HERE), "status", "--porcelain", "--untracked-files=no"]).strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return f"{commit} with local changes" if changed else commit


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
