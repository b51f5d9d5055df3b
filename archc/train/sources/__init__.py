"""Data sources: text, jsonl, Hugging Face datasets on disk, the standard library. One file per kind."""

from __future__ import annotations

from archc.train.sources import rows, stdlib, text
from archc.train.sources.base import Document, Piece, Source, source
from archc.train.sources.reading import OnBad, Reading

STDLIB = "stdlib"  # the place that is no file

__all__ = [
    "STDLIB",
    "Document",
    "OnBad",
    "Piece",
    "Reading",
    "Source",
    "registered_sources",
    "rows",
    "source",
    "source_at",
    "stdlib",
    "text",
]


def registered_sources() -> tuple[type[Source], ...]:
    """Every registered source, in order of registration."""
    return tuple(source.classes.values())


def source_at(place: str, field: str = "text") -> Source:
    """The source that a command is told: `stdlib`, a .jsonl file with its text in `field`, a text file or a folder."""
    if place == STDLIB:
        return stdlib.StandardLibrary()
    return rows.Jsonl(files=place, field=field) if place.endswith(".jsonl") else text.Text(files=place)
