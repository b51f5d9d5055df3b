"""Data sources: text, jsonl, Hugging Face datasets on disk, the standard library. One file per kind."""

from __future__ import annotations

from archc.train.sources import rows, stdlib, text
from archc.train.sources.base import Document, Piece, Source, source
from archc.train.sources.reading import OnBad, Reading

__all__ = [
    "Document",
    "OnBad",
    "Piece",
    "Reading",
    "Source",
    "registered_sources",
    "rows",
    "source",
    "stdlib",
    "text",
]


def registered_sources() -> tuple[type[Source], ...]:
    """Every registered source, in order of registration."""
    return tuple(source.classes.values())
