"""Texts to measure on: files, as documents, as tokens whose bytes are counted exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from archc.kernels.errors import ArchcError, Place, SourceError
from archc.train.corpus import Document
from archc.train.tokenizers import Tokenizer

_BLOCK = 2**14  # characters that are tokenised at once where only some text is wanted


def read_texts(paths: Iterable[Path]) -> tuple[Document, ...]:
    """A document per file; of a folder, per file below it, in order of path.

    Raises SourceError at the first byte of a file that is not UTF-8, ArchcError where nothing is found."""
    return tuple(_document(file) for path in paths for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.rglob("*") if file.is_file())
    if not found:
        raise ArchcError(f"{path} has no files to measure on")
    yield from found


def _document(file: Path) -> Document:
    raw = file.read_bytes()
    try:
        return Document(str(file), raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        at = Place(str(file), before.count(b"\n") + 1, len(before.rsplit(b"\n", 1)[-1]) + 1)
        raise SourceError(at, f"expected UTF-8 text, got byte 0x{raw[error.start]:02x}") from None


def beginning(documents: Iterable[Document], tokens: int, tokenizer: Tokenizer) -> Iterator[Document]:
    """The documents in order up to about so many tokens of a tokenizer, the last one cut; no more is tokenised."""
    left = tokens
    for document in documents:
        for at in range(0, len(document.text), _BLOCK):
            block = document.text[at : at + _BLOCK]
            count = len(tokenizer.encode(block))
            if count >= left:
                yield Document(document.name, document.text[: at + len(block) * left // count])
                return
            left -= count
        yield document


@dataclass(frozen=True)
class Encoded:
    """A document as tokens `[N]`, those from `first` on to be scored; these stand for `bytes` bytes of its text.

    `lossless` says that the tokens decode to the text, so that the bytes are those that the model predicts.
    """

    name: str
    tokens: Tensor
    first: int
    bytes: int
    lossless: bool

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return len(self.tokens) - self.first


def encode(document: Document, tokenizer: Tokenizer) -> Encoded:
    """A document behind the token that documents begin with, or else the one that ends the document before.

    Where the tokenizer has neither, the tokens of the first character are context only, and so are their bytes.
    """
    tokens = tokenizer.encode(document.text)
    before = tokenizer.begin if tokenizer.begin is not None else tokenizer.end
    lossless = tokenizer.decode(tokens) == document.text
    count = len(document.text.encode("utf-8", errors="replace"))
    if before is not None:
        return Encoded(document.name, torch.tensor([before, *tokens]), 1, count, lossless)
    first, skipped = _first_character(tokens, tokenizer)
    return Encoded(document.name, torch.tensor(tokens, dtype=torch.int64), first, count - skipped, lossless)


def _first_character(tokens: Sequence[int], tokenizer: Tokenizer) -> tuple[int, int]:
    """How many tokens the first text that is certain takes, and its bytes."""
    stream = tokenizer.stream()
    for number, token in enumerate(tokens, start=1):
        text = stream.feed(token)
        if text:
            return number, len(text.encode("utf-8", errors="replace"))
    return len(tokens), 0


def encode_all(documents: Iterable[Document], tokenizer: Tokenizer, *, vocab: int) -> tuple[Encoded, ...]:
    """Every document that has something to score.

    Raises ArchcError where none has, and at the first document with a token beyond the `vocab` of a model."""
    found = tuple(e for d in documents if (e := _within(encode(d, tokenizer), vocab)).scored > 0)
    if not found:
        raise ArchcError("there is no text to measure on")
    return found


def _within(encoded: Encoded, vocab: int) -> Encoded:
    largest = int(encoded.tokens.max()) if len(encoded.tokens) else 0
    if largest >= vocab:
        raise ArchcError(f"the tokenizer gives token {largest}, and the model has a vocabulary of {vocab}: not its own")
    return encoded
