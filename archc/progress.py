"""How far something is that takes a while: a bar on a terminal's stderr; elsewhere lines now and then, logged as info.

The command line writes these lines to stderr.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from archc.units import format_size

PATIENCE_S = 2.0
LINES_S = 10.0  # between lines

Unit: TypeAlias = Literal["items", "bytes"]

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def bar(label: str, total: int, *, unit: Unit = "items") -> Iterator[Callable[[int], None]]:
    """A function that counts what is done, of `total` (0: not known); of bytes it also tells how many and how fast."""
    if not sys.stderr.isatty():
        yield _Lines(label, total, unit).advance
        return
    from rich import progress as rich
    from rich.console import Console

    told = (rich.DownloadColumn(binary_units=True), rich.TransferSpeedColumn())
    columns = (rich.TextColumn(label), rich.BarColumn(), *(told if unit == "bytes" else (rich.TaskProgressColumn(),)))
    shown = rich.Progress(*columns, rich.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task, began = shown.add_task("", total=total or None), time.monotonic()

    def advance(done: int) -> None:
        if not shown.live.is_started and time.monotonic() - began > PATIENCE_S:
            shown.start()
        shown.advance(task, done)

    try:
        yield advance
    finally:
        shown.stop()


class _Lines:
    """Tells in a line how far it is, once LINES_S have gone since the last one."""

    def __init__(self, label: str, total: int, unit: Unit) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._began = self._told = time.monotonic()

    def advance(self, done: int) -> None:
        """So much more is done."""
        self.done += done
        now = time.monotonic()
        if now - self._told >= LINES_S:
            self._told = now
            _log.info("%s: %s", self.label, self._said(now - self._began))

    def _said(self, elapsed_s: float) -> str:
        done, total = (f"{n:,}" if self.unit == "items" else format_size(n) for n in (self.done, self.total))
        if not 0 < self.done <= self.total:
            return done
        left_s = elapsed_s * (self.total - self.done) / self.done
        left = f"{left_s:.0f} s" if left_s < 120 else f"{left_s / 60:.0f} min"
        return f"{done} of {total} ({self.done / self.total:.0%}), about {left} left"
