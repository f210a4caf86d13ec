"""The progress bar: rich's if it is installed, else a line on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


def progress_bar(shown: bool, epochs: int, trainer: Any) -> Any:
    """A context with ``advance(rows, metrics)`` and ``finish_epoch(epoch, record)``."""
    if not shown:
        return _Silent()
    total = epochs * len(trainer.X) - int(trainer.model._progress[2])
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError:
        return _Plain(total)
    bar = Progress(
        TextColumn("[bold]train"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    return _Rich(bar, total)


def _text(epoch: int, record: Any) -> str:
    text = f"epoch {epoch + 1}  loss {record['loss']:.2f}"
    return text + (f"  val {record['val_loss']:.2f}" if "val_loss" in record else "")


class _Silent:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def advance(self, rows: int, metrics: Any) -> None:
        pass

    def finish_epoch(self, epoch: int, record: Any) -> None:
        pass


class _Plain(_Silent):
    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def __exit__(self, *error: object) -> None:
        sys.stderr.write("\n")

    def advance(self, rows: int, metrics: Any) -> None:
        self.done += rows

    def finish_epoch(self, epoch: int, record: Any) -> None:
        sys.stderr.write(f"\r{100 * self.done // max(self.total, 1):3d}%  {_text(epoch, record)}")
        sys.stderr.flush()


class _Rich(_Silent):
    def __init__(self, bar: Any, total: int) -> None:
        self.bar, self.task = bar, bar.add_task("train", total=total, text="")

    def __enter__(self) -> Any:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def advance(self, rows: int, metrics: Any) -> None:
        self.bar.advance(self.task, rows)

    def finish_epoch(self, epoch: int, record: Any) -> None:
        self.bar.update(self.task, text=_text(epoch, record))
