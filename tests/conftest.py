"""The end of a run: how much of its tolerance each output of each op used."""

from __future__ import annotations

import signal

import pytest
from numerics import LEDGER

# A job in the background of a script ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := LEDGER.table():
        terminalreporter.section("worst error over its tolerance, cpu against reference")
        for line in lines:
            terminalreporter.write_line(line)
