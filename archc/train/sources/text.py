"""Plain text: files as documents, or their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from typing_extensions import Doc

from archc.kernels.errors import Place
from archc.train.sources.base import Document, Files, Part, Piece, Share, Source, source
from archc.train.sources.files import blocks, file_hash, find_files, lines, total_size
from archc.train.sources.reading import Reading

LONGEST = 1_000_000  # characters; a longer text becomes several documents, so that memory stays bounded


@source("text")
class Text(Source):
    """Text files: each a document, cut at the end of a line where it is longer than a million characters."""

    files: Files
    glob: Annotated[str, Doc("which files of folders are read")] = "*.txt"
    documents_are: Annotated[Literal["files", "lines"], Doc("what is a document")] = "files"
    part: Part = "all"
    held_out: Share = 0.05

    def read(self, reading: Reading) -> Iterator[Document]:
        """Every file or line."""
        for path in self._paths():
            yield from _lines(path, reading) if self.documents_are == "lines" else _whole(path, reading)

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """That there are files."""
        return {"files": self._paths}

    def content(self) -> Iterable[str]:
        """Hashes of the files."""
        return map(file_hash, self._paths())

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return total_size(self._paths())

    def _paths(self) -> list[Path]:
        return find_files(self.files, self.glob)


def _lines(path: Path, reading: Reading) -> Iterator[Document]:
    for _, text in lines(path, reading):
        yield Document((Piece(text),))


def _whole(path: Path, reading: Reading) -> Iterator[Document]:
    text, empty = "", True
    for more in blocks(path, reading):
        text += more
        while len(text) >= LONGEST:
            at = _last_gap(text, LONGEST)
            yield Document((Piece(text[:at]),))
            text, empty = text[at:], False
    if text.strip():
        yield Document((Piece(text),))
    elif empty:
        reading.bad(Place(str(path), 1), "empty document")


def _last_gap(text: str, limit: int) -> int:
    """Where to cut, at most at `limit`: after the last end of a line, else after the last space, else there."""
    return text.rfind("\n", 0, limit) + 1 or text.rfind(" ", 0, limit) + 1 or limit
