"""The progress bar: rich's if it is installed, else a line on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


def progress_bar(shown: bool, title: str, total: int | None) -> Any:
    """A context with ``advance(rows)`` and ``tell(text)``. total: how many rows it will be, None where nobody knows."""
    if not shown:
        return _Silent()
    try:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError:
        return _Plain(title, total)
    bar = Progress(
        TextColumn(f"[bold]{title}"), BarColumn(), TaskProgressColumn(show_speed=True), TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    return _Rich(bar, total)


class _Silent:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def advance(self, rows: int) -> None:
        pass

    def tell(self, text: str) -> None:
        pass


class _Plain(_Silent):
    EVERY = 0.1  # seconds

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done, self.text, self.shown = title, total, 0, "", 0.0

    def __exit__(self, *error: object) -> None:
        self._show()
        sys.stderr.write("\n")

    def advance(self, rows: int) -> None:
        self.done += rows
        if time.monotonic() - self.shown > self.EVERY:
            self._show()

    def tell(self, text: str) -> None:
        self.text = text
        self._show()

    def _show(self) -> None:
        far = f"{self.done:,} rows" if self.total is None else f"{100 * self.done // max(self.total, 1):3d}%"
        sys.stderr.write(f"\r{self.title} {far}  {self.text}")
        sys.stderr.flush()
        self.shown = time.monotonic()


class _Rich(_Silent):
    def __init__(self, bar: Any, total: int | None) -> None:
        self.bar, self.task = bar, bar.add_task("", total=total, text="")

    def __enter__(self) -> Any:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def advance(self, rows: int) -> None:
        self.bar.advance(self.task, rows)

    def tell(self, text: str) -> None:
        self.bar.update(self.task, text=text)
