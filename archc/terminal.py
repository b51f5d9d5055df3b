"""Tables for people: as wide as the terminal, and never squeezed when written to a file or a pipe."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 200


def console() -> Console:
    """A console for standard output; a pipe is as wide as `COLUMNS` says, else wide enough."""
    made = Console(highlight=False)
    if not made.is_terminal:
        given = os.environ.get("COLUMNS", "")
        made.width = int(given) if given.isdecimal() and int(given) > 0 else PIPE_WIDTH
    return made


def plain_table(*columns: str, numbers: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """A table without lines, its columns `numbers` to the right, those in `whole` never broken or cut.

    Columns named by a blank have no heading."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(c.strip() for c in columns))
    for name in columns:
        table.add_column(name.strip(), justify="right" if name in numbers else "left", no_wrap=name in whole)
    return table
