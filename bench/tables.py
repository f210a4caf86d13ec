"""What the tables of all sections share."""

from __future__ import annotations

from collections.abc import Sequence


def time_text(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(header: Sequence[str], lines: Sequence[Sequence[str]], named: int) -> str:
    """The first `named` columns are text, the others numbers."""
    rule = "|" + "---|" * named + "--:|" * (len(header) - named)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def refusals(records: Sequence[dict]) -> list[str]:
    """A line for each contestant that was refused."""
    return [
        f"{name} is not timed in {record['task']}, {record['data']}, batch {record['batch']}: {reason}."
        for record in records
        for name, reason in record["refused"].items()
    ]
