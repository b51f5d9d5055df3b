"""A bar on a terminal's stderr, once something takes a while."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PATIENCE_S = 2.0


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that counts what is done, of `total`."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True), transient=True)
    task, began = shown.add_task("", total=total), time.monotonic()

    def advance(done: int) -> None:
        if not shown.live.is_started and time.monotonic() - began > PATIENCE_S:
            shown.start()
        shown.advance(task, done)

    try:
        yield advance
    finally:
        shown.stop()
