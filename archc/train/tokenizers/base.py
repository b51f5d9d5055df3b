"""What a tokenizer is, and the registry of file formats that one can lie in.

A format is a reader under `@tokenizer_format(name, *files, when=)`: the names it has in a folder, and whether a file is
one of its own (by its first bytes: a `tokenizer.model` may be SentencePiece's or a list of tiktoken ranks).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archc.kernels.errors import ArchcError
from archc.train.bytes import ByteTokenizer

if TYPE_CHECKING:
    from archc.train.bytes import Tokens

BYTES_NAME = "bytes"
_SNIFFED = 4096


class TextStream(Protocol):
    """Decodes one token at a time."""

    def feed(self, token: int) -> str:
        """The text that `token` completes, possibly empty."""

    def finish(self) -> str:
        """What is left at the end."""


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Ids below it mean something; a model's padded vocabulary may be larger."""

    @property
    def begin(self) -> int | None:
        """The id that a document begins with, if there is one."""

    @property
    def end(self) -> int | None:
        """The id that ends a document or an answer, if there is one."""

    @property
    def hash(self) -> str:
        """sha256 of what it does: of its file and its special ids."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without specials that the text does not spell out."""

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """What `encode` gives for each text, as arrays, and quicker."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, specials left out."""

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""

    def save(self, folder: Path) -> None:
        """Write its files into a folder, under the names that `load_tokenizer` finds there."""


@dataclass(frozen=True)
class TokenizerFormat:
    """A kind of tokenizer file."""

    name: str
    files: tuple[str, ...]
    when: Callable[[bytes], bool]
    read: Callable[[Path], Tokenizer]

    def find(self, folder: Path) -> Iterator[Path]:
        """The files of a folder that are of this kind."""
        for pattern in self.files:
            yield from (path for path in sorted(folder.glob(pattern)) if self.reads(path))

    def reads(self, path: Path) -> bool:
        """Whether a file looks like one of this kind."""
        with path.open("rb") as file:
            return self.when(file.read(_SNIFFED))


_FORMATS: dict[str, TokenizerFormat] = {}

Reader = Callable[[Path], Tokenizer]


def tokenizer_format(name: str, *files: str, when: Callable[[bytes], bool]) -> Callable[[Reader], Reader]:
    """Decorator: registers the reader of a kind of file that has one of these names (or globs) in a folder."""

    def register(read: Reader) -> Reader:
        if name in _FORMATS:
            raise ArchcError(f"tokenizer format `{name}` is registered twice")
        _FORMATS[name] = TokenizerFormat(name, files, when, read)
        return read

    return register


def tokenizer_formats() -> tuple[TokenizerFormat, ...]:
    """Every kind of tokenizer file, those that are looked for first at first."""
    import archc.train.tokenizers  # noqa: F401  (registers the built-in formats)

    return tuple(_FORMATS.values())


def find_tokenizer(place: str) -> Tokenizer:
    """The tokenizer that a command is told to use: `bytes`, or a file, or a folder that has one."""
    return ByteTokenizer() if place == BYTES_NAME else load_tokenizer(Path(place))


def load_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer of a file, or the one that travels with a checkpoint or package.

    Raises ArchcError where there is none or it cannot be read, MissingPackage where reading needs another package.
    """
    if place.is_file():
        return _load_file(place)
    for kind in tokenizer_formats():
        for path in kind.find(place):
            return kind.read(path)
    looked = ", ".join(dict.fromkeys(name for kind in tokenizer_formats() for name in kind.files))
    what = f"{place} has no tokenizer: looked for {looked}" if place.is_dir() else f"{place}: no such file or folder"
    raise ArchcError(f"{what}; the tokenizer `{BYTES_NAME}` needs no file")


def _load_file(path: Path) -> Tokenizer:
    for kind in tokenizer_formats():
        if kind.reads(path):
            return kind.read(path)
    kinds = ", ".join(kind.name for kind in tokenizer_formats())
    raise ArchcError(f"{path} is not a tokenizer of a kind that archc knows: {kinds}")


# -- for readers -------------------------------------------------------------------------------------------------------


class BytesStream:
    """Incremental decoding for a tokenizer whose every token is bytes: text appears when its last byte does."""

    def __init__(self, spelt: Callable[[int], bytes]) -> None:
        self._spelt = spelt
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that `token` completes, possibly empty."""
        return self._decoder.decode(self._spelt(token))

    def finish(self) -> str:
        """What an unfinished character at the end decodes to."""
        return self._decoder.decode(b"", final=True)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ArchcError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArchcError(f"{path}: expected a JSON mapping, got {type(found).__name__}")
    return found


def digest(path: Path, *more: object) -> str:
    """sha256 of a file and of what else decides."""
    made = hashlib.sha256(path.read_bytes())
    made.update(repr(more).encode())
    return made.hexdigest()
