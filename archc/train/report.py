"""Where the records of a run go: a JSONL file, TensorBoard events, and a progress bar in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from archc.kernels.optional import optional
from archc.train.record import Record, Report
from archc.units import format_size


@contextmanager
def jsonl_log(path: Path) -> Iterator[Report]:
    """A reporter that appends one JSON object per record, flushed line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        def write(record: Record) -> None:
            file.write(json.dumps(record.data()) + "\n")
            file.flush()

        yield write


def has_tensorboard() -> bool:
    """Whether TensorBoard events can be written."""
    import importlib.util

    return importlib.util.find_spec("tensorboard") is not None


def check_tensorboard() -> None:
    """Raise MissingPackage where TensorBoard events cannot be written."""
    optional("tensorboard", extra="train", purpose="writing TensorBoard events")


@contextmanager
def tensorboard_log(folder: Path, *, after: int | None = None) -> Iterator[Report]:
    """A reporter that writes TensorBoard events; those of steps past `after` are hidden from an earlier, killed run.

    Raises MissingPackage without the package."""
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder), purge_step=None if after is None else after + 1)

    def write(record: Record) -> None:
        for name, value in record.figures.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, record.step)
        if record.said:
            writer.add_text(record.event, record.said, record.step)

    try:
        yield write
    finally:
        writer.close()


@contextmanager
def progress_bar(console: Console) -> Iterator[Report]:
    """A reporter that prints a line for every event; in a terminal, with a bar below them."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]}  {task.fields[speed]} tokens/s"),
        TextColumn("{task.fields[memory]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=1.0, step=0, loss="-", speed="-", memory="")

        def show(record: Record) -> None:
            progress.update(task, completed=record.progress, **_fields(record))
            if record.event:
                progress.console.print(_line(record), highlight=False, markup=False)

        yield show


def _fields(record: Record) -> dict[str, Any]:
    figures = record.figures
    shown: dict[str, Any] = {"step": record.step}
    if "loss" in figures:
        shown |= {
            "loss": f"{figures['loss']:.3f}",
            "speed": f"{figures['tokens_per_s']:,.0f}",
            "memory": format_size(int(figures["memory_bytes"])),
        }
    return shown


def _line(record: Record) -> str:
    head = f"  {record.elapsed_s:5.0f} s  step {record.step:>5}  "
    if record.event != "evaluation":
        return f"{head}{record.event}: {record.said}"
    bits = record.figures.get("held_out/bits_per_byte")
    told = f"held-out loss {record.figures['held_out/loss']:.3f}"
    return f"{head}{told}" + (f", {bits:.3f} bits a byte" if bits is not None else "")
