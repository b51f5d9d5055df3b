"""What a tokenizer is here, and which one travels with a checkpoint or an emitted package.

A folder carries either `archc_tokenizer.json` (the byte tokenizer) or the files of a Hugging Face fast tokenizer
(`tokenizer.json`), which are read with the `tokenizers` package of the `hf` extra.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from archc.kernels.errors import ArchcError, MissingPackage, UnsupportedError
from archc.train.bytes import SPECIALS, ByteTokenizer

BYTES_NAME = "bytes"
OWN_FILE = "archc_tokenizer.json"
HF_FILE = "tokenizer.json"
GENERATION_CONFIG = "generation_config.json"

_BYTE_FILE = {"archc_tokenizer": 1, "kind": "bytes", "specials": list(SPECIALS)}


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

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without specials that the text does not spell out."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, specials left out."""

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""


def save_byte_tokenizer(folder: Path) -> Path:
    """Write the byte tokenizer's file into `folder`; returns its path."""
    path = folder / OWN_FILE
    path.write_text(json.dumps(_BYTE_FILE, indent=2) + "\n", encoding="utf-8")
    return path


def find_tokenizer(place: str) -> Tokenizer:
    """The tokenizer that a command is told to use: `bytes`, or the folder that has one."""
    return ByteTokenizer() if place == BYTES_NAME else load_tokenizer(Path(place))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that travels with a checkpoint or package.

    Raises ArchcError where the folder has none or it cannot be read, MissingPackage where reading needs the `hf` extra.
    """
    if (folder / OWN_FILE).is_file():
        return _byte_tokenizer(folder / OWN_FILE)
    if (folder / HF_FILE).is_file():
        return HFTokenizer(folder)
    raise ArchcError(
        f"{folder} has no tokenizer: looked for {OWN_FILE} and {HF_FILE}; `--tokenizer {BYTES_NAME}` needs none"
    )


def _byte_tokenizer(path: Path) -> ByteTokenizer:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchcError(f"{path} is not JSON: {error}") from error
    if stored != _BYTE_FILE:
        raise UnsupportedError(f"{path} is not a byte tokenizer that archc knows: expected {json.dumps(_BYTE_FILE)}")
    return ByteTokenizer()


class HFTokenizer:
    """A Hugging Face fast tokenizer, read by the `tokenizers` package."""

    def __init__(self, folder: Path) -> None:
        try:
            tokenizers = importlib.import_module("tokenizers")
        except ModuleNotFoundError as error:
            raise MissingPackage(f"{folder / HF_FILE} is read with `tokenizers`: pip install 'archc[hf]'") from error
        try:
            self._engine: Any = tokenizers.Tokenizer.from_file(str(folder / HF_FILE))
        except Exception as error:  # the Rust engine raises bare Exception for a file it cannot read
            raise ArchcError(f"{folder / HF_FILE} is not a tokenizer: {error}") from error
        self._decoders: Any = tokenizers.decoders
        self.begin = _special(folder, "bos_token_id")
        self.end = _special(folder, "eos_token_id")

    @property
    def vocab_size(self) -> int:
        """The ids that the file assigns, added tokens included."""
        ids: dict[str, int] = self._engine.get_vocab(with_added_tokens=True)
        return max(ids.values()) + 1

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self._engine.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, specials left out."""
        return str(self._engine.decode(list(tokens), skip_special_tokens=True))

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""
        return _HFStream(self._engine, self._decoders.DecodeStream(skip_special_tokens=True))


class _HFStream:
    """`tokenizers`' own incremental decoder behind TextStream."""

    def __init__(self, engine: Any, decoder: Any) -> None:
        self._engine, self._decoder = engine, decoder

    def feed(self, token: int) -> str:
        return self._decoder.step(self._engine, token) or ""

    def finish(self) -> str:
        return ""


def _special(folder: Path, field: str) -> int | None:
    """A token id of generation_config.json, the first one where it lists several; None where it is not said."""
    path = folder / GENERATION_CONFIG
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8")).get(field)
    except ValueError as error:
        raise ArchcError(f"{path} is not JSON: {error}") from error
    first = stored[0] if isinstance(stored, list) and stored else stored
    return first if isinstance(first, int) else None
