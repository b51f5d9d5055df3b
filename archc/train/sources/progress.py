"""The bar of what reads a source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from archc.progress import bar

_STEP = 2**18  # bytes that are told at once: a call for every line would take longer than reading it


@contextlib.contextmanager
def reading_bar(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of a source (0: not known), or lines; what it yields takes bytes that are read."""
    if not shown:
        yield lambda size: None
        return
    with bar(what, total, unit="bytes") as told:
        waiting = 0

        def advance(size: int) -> None:
            nonlocal waiting
            waiting += size
            if waiting >= _STEP:
                told(waiting)
                waiting = 0

        yield advance
