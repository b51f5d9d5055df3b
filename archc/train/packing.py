"""Making a packed dataset: documents are tokenised in groups, one in memory at a time, and appended to shards."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archc.kernels.errors import ArchcError
from archc.train.packed import DOCUMENTS, VERSION, Manifest
from archc.train.sources import Document, OnBad, Reading, Source
from archc.train.sources.progress import reading_bar

if TYPE_CHECKING:
    from archc.train.tokenizers import Tokenizer

SHARD_TOKENS = 2**28
GROUP_CHARACTERS = 4_000_000


def pack(
    source: Source,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    on_bad: OnBad,
    progress: bool,
    shard_tokens: int = SHARD_TOKENS,
) -> Manifest:
    """Write every document of a source into a folder, all but the manifest, which is returned."""
    wanted = source.hash
    with reading_bar("tokenising", source.size, shown=progress) as advance:
        reading = Reading(on_bad, advance=advance)
        writer = _Writer(folder, tokenizer.vocab_size, shard_tokens)
        with contextlib.closing(writer):
            for group in _groups(source.documents(reading)):
                writer.add(_tokenised(group, tokenizer))
                writer.text_bytes += sum(len(document.text.encode()) for document in group)
    reading.finish()
    if not writer.documents:
        part = getattr(source, "part", "all")
        where = "" if part == "all" else f" in its part `{part}`, and parts hold whole documents"
        raise ArchcError(f"the source {source}: no document to learn from{where}")
    if source.hash != wanted:
        raise ArchcError(f"{source}: its files changed while they were read")
    return Manifest(
        version=VERSION,
        source=wanted,
        about=str(source),
        tokenizer=tokenizer.hash,
        on_bad=on_bad,
        vocab=tokenizer.vocab_size,
        dtype=str(writer.dtype),
        shard_tokens=shard_tokens,
        documents=writer.documents,
        tokens=writer.tokens,
        learnt=writer.learnt,
        text_bytes=writer.text_bytes,
        skipped={file: dict(sorted(reasons.items())) for file, reasons in reading.skipped.items()},
        sizes={file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        content=writer.digest(),
    )


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in groups of a few million characters."""
    group: list[Document] = []
    size = 0
    for document in documents:
        group.append(document)
        size += sum(len(piece.text) for piece in document.pieces)
        if size >= GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


@dataclass(frozen=True)
class _Group:
    """Documents end to end."""

    tokens: NDArray[Any]
    learn: NDArray[np.uint8] | None  # None: all
    lengths: NDArray[np.int64]  # of the documents


def _tokenised(group: list[Document], tokenizer: Tokenizer) -> _Group:
    """The tokens of documents, and which of them are learnt. Pieces are tokenised one by one."""
    made = iter(tokenizer.encode_many([piece.text for document in group for piece in document.pieces]))
    begin, end = (np.array([] if mark is None else [mark], np.uint32) for mark in (tokenizer.begin, tokenizer.end))
    parts: list[NDArray[Any]] = []
    learn: list[bool] = []
    ends: list[int] = []
    for document in group:
        pieces = [next(made) for _ in document.pieces]
        flags = [piece.learn for piece in document.pieces]
        parts += [begin, *pieces, end] if document.marks else pieces
        learn += [flags[0], *flags, flags[-1]] if document.marks else flags
        ends.append(len(parts))
    counts = [len(part) for part in parts]
    mask = None if all(learn) else np.repeat(np.array(learn, np.uint8), counts)
    lengths = np.diff(np.concatenate([[0], np.cumsum(counts)])[[0, *ends]])
    return _Group(np.concatenate(parts), mask, lengths[lengths > 0])


@dataclass
class _Writer:
    """Appends documents to shards of equal length. `learn` files are there once a document needs one."""

    folder: Path
    vocab: int
    shard_tokens: int
    tokens: int = 0
    learnt: int = 0
    documents: int = 0
    text_bytes: int = 0
    _open: dict[str, IO[bytes]] = field(default_factory=dict)
    _masked: bool = False
    _hashes: dict[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest that holds the vocabulary."""
        return np.dtype(np.uint16 if self.vocab <= 2**16 else np.uint32)

    def add(self, group: _Group) -> None:
        """Documents."""
        count = len(group.tokens)
        if group.learn is not None and not self._masked:
            self._masked = True
            self._fill_masks()
        self._append(DOCUMENTS, self.tokens + np.cumsum(group.lengths) - group.lengths)
        if count and group.tokens.max() >= self.vocab:
            raise ArchcError(f"the tokenizer gives token {group.tokens.max()} of a vocabulary of {self.vocab}")
        self._append_shards("tokens", group.tokens.astype(self.dtype))
        if self._masked:
            self._append_shards("learn", np.ones(count, np.uint8) if group.learn is None else group.learn)
        self.learnt += count if group.learn is None else int(group.learn.sum())
        self.tokens += count
        self.documents += len(group.lengths)

    def _fill_masks(self) -> None:
        """Ones for the documents before the first that needs a mask."""
        done, self.tokens = self.tokens, 0
        while self.tokens < done:
            ones = np.ones(min(done - self.tokens, 2**20), np.uint8)
            self._append_shards("learn", ones)
            self.tokens += len(ones)

    def _append_shards(self, kind: str, values: NDArray[Any]) -> None:
        at = self.tokens
        while len(values):
            number, used = divmod(at, self.shard_tokens)
            part, values = values[: self.shard_tokens - used], values[self.shard_tokens - used :]
            self._append(f"{kind}-{number:05d}.bin", part)
            at += len(part)

    def _append(self, name: str, values: NDArray[Any]) -> None:
        kind = name.split("-")[0]
        if name not in self._open:
            for old in [old for old in self._open if old.split("-")[0] == kind]:
                self._open.pop(old).close()
            self._open[name] = (self.folder / name).open("ab")
        self._open[name].write(values.tobytes())
        self._hashes.setdefault(kind, hashlib.sha256()).update(values.tobytes())

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()

    def digest(self) -> str:
        """sha256 of everything written, whatever the shards."""
        parts = [self.dtype.str, *(f"{kind} {made.hexdigest()}" for kind, made in sorted(self._hashes.items()))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
