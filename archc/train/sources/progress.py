"""The bar of what reads a source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

_STEP = 2**18  # bytes that are told at once: a call for every line would take longer than reading it


@contextlib.contextmanager
def reading_bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of a source (0: not known), on a terminal; what it yields takes bytes that are read."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task, waiting = bar.add_task(what, total=total or None), 0

        def advance(size: int) -> None:
            nonlocal waiting
            waiting += size
            if waiting >= _STEP:
                bar.advance(task, waiting)
                waiting = 0

        yield advance
