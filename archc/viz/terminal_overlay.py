"""Overlays on a terminal: a bar for each score, a profile of each dim's units, formats and choices in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archc.terminal import plain_table
from archc.viz.drawing import bar, profile
from archc.viz.overlay_rows import Numbers, Rows, folded

# More rows than a screen holds are folded.
MOST_ROWS = 40
_NARROWEST, _WIDEST = 8, 32


def print_overlay(out: Console, rows: Rows) -> None:
    """The tables of one overlay, under its title."""
    out.print()
    out.print(Text(rows.overlay.title, "bold"))
    if not (rows.scores or rows.units or rows.words):
        out.print("nothing here")
    if len(rows.scores) > MOST_ROWS:
        out.print(_numbers(out, folded(rows.scores), "nodes"))
        out.print(_extremes(rows.scores))
    elif rows.scores:
        out.print(_scores(out, rows.scores))
    if rows.units:
        many = len(rows.units) > MOST_ROWS
        out.print(_numbers(out, folded(rows.units) if many else rows.units, "units"))
    if rows.words:
        out.print(_words(rows))


def _scores(out: Console, scores: Sequence[Numbers]) -> Table:
    greatest = max(abs(score.mean) for score in scores) or 1.0
    table = plain_table("layer", "kind", "score", " ", numbers=("layer", "score"), whole=("kind", "score", " "))
    width = _room(out, 16 + max(len(score.kind) for score in scores))
    for score in scores:
        drawn = bar(out, score.mean / greatest, width)
        table.add_row(score.at, score.kind, _number(score.mean), drawn)
    return table


def _extremes(scores: Sequence[Numbers]) -> Text:
    """The highest and the lowest scores by layer, where not all are shown."""
    ranked = sorted(scores, key=lambda score: -score.mean)
    highest, lowest = (", ".join(f"{s.at} ({_number(s.mean)})" for s in of) for of in (ranked[:5], ranked[:-6:-1]))
    return Text(f"highest: {highest}\nlowest: {lowest}")


def _numbers(out: Console, rows: Sequence[Numbers], counted: str) -> Table:
    numbers = ("layer", counted, "least", "mean", "greatest")
    named = ("layer", "kind", "dim", counted, "least", "mean", "greatest", " ")
    shown = [name for name in named if name != "dim" or counted == "units"]
    table = plain_table(*shown, numbers=numbers, whole=("kind", *numbers, " "))
    width = _room(out, 49 + max(len(row.kind) + (len(row.key) if counted == "units" else 0) for row in rows))
    for row in rows:
        cells = [row.at, row.kind, row.key, str(row.count), *map(_number, (row.least, row.mean, row.greatest))]
        drawn = profile(out, row.profile, width)
        table.add_row(*(cell for cell, name in zip(cells, named, strict=False) if name in shown), drawn)
    return table


def _words(rows: Rows) -> Table:
    table = plain_table("kind", "dim or parameter", "choice or format", "layers")
    for row in rows.words:
        table.add_row(row.kind, row.key, row.text, row.at)
    return table


def _room(out: Console, taken: int) -> int:
    """Cells left for drawing beside what is written."""
    return max(_NARROWEST, min(_WIDEST, out.width - taken))


def _number(value: float) -> str:
    return f"{value:.3g}"
