"""What all GPU tests share, and the end of their run: how many did not run on a GPU. With LATENTCORE_REQUIRE_CUDA=1 that is
an error."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # cases, numerics, and the cases of each op

from kernels import ON_GPU, the_backend

_interpreted: set[str] = set()
_usage: dict[str, dict[int, tuple[int, int]]] = {}
_variants: Counter[str] = Counter()


@pytest.fixture(scope="session")
def backend():
    return the_backend()


@pytest.fixture(scope="session")
def record_usage():
    """Notes the registers and the shared memory of a variant of a kernel on an architecture, for the end of the run."""

    def record(name: str, arch: int, registers: int, shared: int) -> None:
        most = _usage.setdefault(name, {}).get(arch, (0, 0))
        _usage[name][arch] = max(most[0], registers), max(most[1], shared)
        _variants[name] += 1

    return record


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "backend" in getattr(item, "fixturenames", ()) and not ON_GPU:
        _interpreted.add(item.nodeid)


def _not_run(reporter: pytest.TerminalReporter) -> int:
    return len(reporter.stats.get("skipped", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _usage:
        terminalreporter.section("kernels compiled: registers and bytes of shared memory, the most of any variant")
        for name in sorted(_usage):
            most = "  ".join(f"sm_{arch} {r:>3} {s:>6}" for arch, (r, s) in sorted(_usage[name].items()))
            terminalreporter.write_line(f"{name:<32}{_variants[name]:>4} variants  {most}")
    if _interpreted or _not_run(terminalreporter):
        terminalreporter.section("GPU")
        terminalreporter.write_line(
            f"{len(_interpreted)} tests of kernels ran interpreted, not on a GPU; "
            f"{_not_run(terminalreporter)} GPU tests were not run at all"
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LATENTCORE_REQUIRE_CUDA") == "1" and (_interpreted or _not_run(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
