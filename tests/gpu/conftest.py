"""What all GPU tests share, and the end of their run: how many did not run on a GPU. With LATENTCORE_REQUIRE_CUDA=1 that is
an error."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # cases, numerics, and the cases of each op

from kernels import ON_GPU, the_backend
from place import Place

from latentcore import backends, linalg
from latentcore.backends.cuda import CudaBackend

REQUIRED = os.environ.get("LATENTCORE_REQUIRE_CUDA") == "1"
_interpreted: set[str] = set()  # tests that would run on a GPU if there were one
_skipped: set[str] = set()
_usage: dict[str, dict[int, tuple[int, int]]] = {}
_variants: Counter[str] = Counter()


@pytest.fixture(scope="session")
def backend():
    return the_backend()


@pytest.fixture(scope="module")
def place(backend: CudaBackend) -> Iterator[Place]:
    """On a GPU its own arrays, else such as behave like them."""
    if not ON_GPU:
        from strict import StrictDevice

        backend = CudaBackend(StrictDevice())
    before = dict(backends._BACKENDS)
    backends._BACKENDS["cuda"] = backend
    yield Place(backend.device)
    backends._BACKENDS.clear()
    backends._BACKENDS.update(before)
    linalg._solver.cache_clear()


@pytest.fixture
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments are bound for few rows: the interpreter goes through all that a plan is bound for."""
    monkeypatch.setattr("latentcore.models.moments._MOST", 8)


@pytest.fixture(scope="session")
def record_usage():
    """Notes the registers and the shared memory of a variant of a kernel on an architecture, for the end of the run."""

    def record(name: str, arch: int, registers: int, shared: int) -> None:
        most = _usage.setdefault(name, {}).get(arch, (0, 0))
        _usage[name][arch] = max(most[0], registers), max(most[1], shared)
        _variants[name] += 1

    return record


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.add(report.nodeid)
        _interpreted.discard(report.nodeid)
    elif report.when == "setup" and not ON_GPU and "test_compiled.py" not in report.nodeid:
        _interpreted.add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _usage:
        terminalreporter.section("kernels compiled: registers and bytes of shared memory, the most of any variant")
        for name in sorted(_usage):
            most = "  ".join(f"sm_{arch} {r:>3} {s:>6}" for arch, (r, s) in sorted(_usage[name].items()))
            terminalreporter.write_line(f"{name:<32}{_variants[name]:>4} variants  {most}")
    if _interpreted or _skipped:
        terminalreporter.section("GPU")
        terminalreporter.write_line(
            f"{len(_interpreted)} tests ran on interpreted kernels, not on a GPU; {len(_skipped)} GPU tests were not run"
            + ": an error, with LATENTCORE_REQUIRE_CUDA=1" * REQUIRED
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if REQUIRED and (_interpreted or _skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
