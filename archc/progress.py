"""A bar on a terminal's stderr, once something takes a while."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

PATIENCE_S = 2.0


@contextlib.contextmanager
def bar(label: str, total: int, *, unit: Literal["items", "bytes"] = "items") -> Iterator[Callable[[int], None]]:
    """A function that counts what is done, of `total`; of bytes it also tells how many and how fast."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich import progress as rich
    from rich.console import Console

    told = (rich.DownloadColumn(binary_units=True), rich.TransferSpeedColumn())
    columns = (rich.TextColumn(label), rich.BarColumn(), *(told if unit == "bytes" else (rich.TaskProgressColumn(),)))
    shown = rich.Progress(*columns, rich.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task, began = shown.add_task("", total=total), time.monotonic()

    def advance(done: int) -> None:
        if not shown.live.is_started and time.monotonic() - began > PATIENCE_S:
            shown.start()
        shown.advance(task, done)

    try:
        yield advance
    finally:
        shown.stop()
