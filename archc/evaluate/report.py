"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from archc.evaluate.metric import Figure, Measured
from archc.terminal import plain_table


def table(measured: Iterable[Measured]) -> Table:
    """A line per figure, the metric named before its first."""
    made = plain_table("metric", "figure", "value", numbers=("value",), whole=("value",))
    for one in measured:
        name = str(one.metric)
        for figure in one.figures:
            if figure.words:
                made.add_row(name, figure.words, figure.shown)
                name = ""
    return made


def as_json(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """`{"metric": ..., "options": text, figures...}` per metric, in the order in which they were measured."""
    return [{"metric": m.metric.name, "as": str(m.metric), **nested(m.figures)} for m in measured]


def nested(figures: Iterable[Figure]) -> dict[str, Any]:
    """The values of figures by key; a dot nests.

    >>> nested([Figure("tokens", 3, "", ""), Figure("accuracy.64", 0.5, "", "")])
    {'tokens': 3, 'accuracy': {'64': 0.5}}
    """
    made: dict[str, Any] = {}
    for figure in figures:
        *path, last = figure.key.split(".")
        inner = made
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = figure.value
    return made
