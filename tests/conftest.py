"""The end of a run: how much of its tolerance each output of each op used."""

from __future__ import annotations

import pytest
from numerics import LEDGER


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := LEDGER.table():
        terminalreporter.section("worst error over its tolerance, cpu against reference")
        for line in lines:
            terminalreporter.write_line(line)
