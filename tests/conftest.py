"""The end of a run: how much of its tolerance each output of each op used, in all processes that shared the tests."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from numerics import LEDGER

# A job in the background of a script ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
