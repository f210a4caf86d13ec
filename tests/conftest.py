"""The number of threads of a test; and the end of a run: how much of its tolerance each output of each op used, in all
processes that shared the tests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from numerics import LEDGER

import latentcore as lc

# A job in the background of a script ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads for one test."""
    before = lc.get_num_threads()
    yield lc.set_num_threads
    lc.set_num_threads(before)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ledger"] = LEDGER.worst


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for (op, output, dtype), (ratio, case) in getattr(node, "workeroutput", {}).get("ledger", {}).items():
        LEDGER.record(op, output, dtype, ratio, case)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := LEDGER.table():
        terminalreporter.section("worst error over its tolerance, cpu against reference")
        for line in lines:
            terminalreporter.write_line(line)
