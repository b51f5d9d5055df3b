"""Where the records of a run go: a JSONL file, and a progress bar in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from archc.train.loop import Record


@contextmanager
def jsonl_log(path: Path) -> Iterator[Callable[[Record], None]]:
    """A reporter that writes one JSON object per record, fields without a value left out, flushed line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def write(record: Record) -> None:
            file.write(json.dumps({k: v for k, v in asdict(record).items() if v is not None}) + "\n")
            file.flush()

        yield write


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[Record], None]]:
    """A reporter that prints a line for every measurement on held-out text; in a terminal, with a bar below them."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]}  {task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=1.0, step=0, loss="-", speed="-")

        def show(record: Record) -> None:
            _show(progress, task, record)

        yield show


def _show(progress: Progress, task: TaskID, record: Record) -> None:
    progress.update(task, completed=record.progress, step=record.step, speed=f"{record.tokens_per_s:,.0f}")
    if record.loss is not None:
        progress.update(task, loss=f"{record.loss:.3f}")
    if record.held_out_loss is not None:
        line = f"  {record.elapsed_s:5.0f} s  step {record.step:>5}  held-out loss {record.held_out_loss:.3f}"
        progress.console.print(line, highlight=False)
