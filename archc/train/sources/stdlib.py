"""The text that every machine has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from archc.train.corpus import HELD_OUT_PERCENT, standard_library_corpus
from archc.train.sources.base import Document, Part, Piece, Source, source
from archc.train.sources.reading import Reading


@source("stdlib")
class StandardLibrary(Source):
    """Docstrings of Python's standard library, and its help topics; whole modules are held out."""

    part: Part = "train"

    held_out = HELD_OUT_PERCENT / 100

    def documents(self, reading: Reading) -> Iterator[Document]:
        """The modules of the part, as the corpus has split them."""
        return _modules(self.part, reading)

    def read(self, reading: Reading) -> Iterator[Document]:
        """Every module, whatever the part."""
        return _modules("all", reading)

    def content(self) -> Iterable[str]:
        """The corpus' own hash."""
        return [standard_library_corpus().sha256]


def _modules(part: str, reading: Reading) -> Iterator[Document]:
    corpus = standard_library_corpus()
    parts = {"train": corpus.train, "held_out": corpus.held_out, "all": (*corpus.train, *corpus.held_out)}
    for module in parts[part]:
        reading.advance(len(module.text))
        yield Document((Piece(module.text),))
