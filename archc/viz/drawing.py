"""Drawing with characters: bars, profiles and wrapped lines, in plain ASCII where the terminal has no more."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from rich.console import Console

_HEIGHTS, _ASCII_HEIGHTS = "▁▂▃▄▅▆▇█", "_.-:=+*#"


def draws_blocks(out: Console) -> bool:
    """Whether block characters reach the terminal."""
    return out.encoding.lower().replace("-", "").startswith("utf")


def bar(out: Console, share: float, width: int) -> str:
    """A bar of `share` of the width, paler where that is negative; at least one cell for anything but nothing."""
    full, pale = "█▒" if draws_blocks(out) else "#-"
    cells = max(1, round(abs(share) * width)) if share else 0
    return (full if share > 0 else pale) * cells


def profile(out: Console, values: Sequence[float], width: int) -> str:
    """Values as heights, one a cell; the means of neighbours where there are more values than cells."""
    cells = _binned(values, width)
    heights = _HEIGHTS if draws_blocks(out) else _ASCII_HEIGHTS
    low, high = min(0.0, *cells), max(0.0, *cells)
    scale = (len(heights) - 1) / (high - low) if high > low else 0.0
    return "".join(heights[round((value - low) * scale)] for value in cells)


def _binned(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [i * len(values) // width for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Text on lines of at most `width`, each after `indent`; a word longer than a line is broken."""
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
