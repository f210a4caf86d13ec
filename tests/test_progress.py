"""The progress bar, with rich and without it, of known and of unknown length."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from latentcore import progress


def run(total: int | None) -> None:
    with progress.progress_bar(True, "fit", total) as bar:
        for _ in range(3):
            bar.advance(100)
        bar.tell("chunk 3")
        bar.advance(100)


@pytest.mark.parametrize(("total", "far"), [(400, "100%"), (800, "50%"), (0, "40000%"), (None, "400 rows")])
def test_a_line_without_rich(total: int | None, far: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    run(total)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split("\r")[-1].split() == ["fit", *far.split(), "chunk", "3"]
    assert err.endswith("\n")


@pytest.mark.parametrize("total", [400, None])
def test_a_bar_with_rich(total: int | None, capsys: Any) -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    run(total)
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown.startswith("fit")
    assert "chunk 3" in shown
    assert ("100%" in shown) == (total == 400)


def test_nothing_is_shown_unasked(capsys: Any) -> None:
    with progress.progress_bar(False, "fit", 3) as bar:
        bar.advance(3)
        bar.tell("all")
    assert capsys.readouterr() == ("", "")
