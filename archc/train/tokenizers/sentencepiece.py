"""SentencePiece models: `tokenizer.model`, read by the `sentencepiece` package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archc.kernels.errors import ArchcError
from archc.kernels.optional import optional
from archc.train.bytes import Tokens
from archc.train.tokenizers.base import BytesStream, TextStream, digest, tokenizer_format

MODEL_FILE = "tokenizer.model"
_SPACE = "\u2581"


@tokenizer_format("sentencepiece", MODEL_FILE, "*.model", when=lambda head: head[:1] == b"\n")
class SentencePieceTokenizer:
    """A SentencePiece model, unigram or BPE. Control symbols are never read from text."""

    def __init__(self, path: Path) -> None:
        sentencepiece = optional("sentencepiece", extra="train", purpose=f"reading {path}")
        try:
            self._engine: Any = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ArchcError(f"{path} is not a SentencePiece model: {error}") from error
        self._path = path
        self.begin = _given(self._engine.bos_id())
        self.end = _given(self._engine.eos_id())
        first = self._engine.encode("a")
        self._adds_space = bool(first) and self._engine.id_to_piece(first[0]).startswith(_SPACE)

    @property
    def vocab_size(self) -> int:
        """Pieces, control symbols included."""
        return int(self._engine.get_piece_size())

    @property
    def hash(self) -> str:
        """sha256 of the file."""
        return digest(self._path)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self._engine.encode(text))

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, on all cores."""
        made = self._engine.encode(list(texts), num_threads=os.cpu_count() or 1)
        return [np.array(one, dtype=np.uint32) for one in made]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, control symbols and padding left out."""
        stream = self.stream()
        return "".join([*map(stream.feed, tokens), stream.finish()])

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""
        return _Stream(self._spelt) if self._adds_space else BytesStream(self._spelt)

    def save(self, folder: Path) -> None:
        """Copy the model."""
        shutil.copyfile(self._path, folder / MODEL_FILE)

    def _spelt(self, token: int) -> bytes:
        engine = self._engine
        if not 0 <= token < self.vocab_size or engine.is_control(token) or engine.is_unused(token):
            return b""
        piece = str(engine.id_to_piece(token))
        if engine.is_byte(token):
            return bytes([int(piece[3:-1], 16)])  # <0xNN>
        return b" \xe2\x81\x87 " if engine.is_unknown(token) else piece.replace(_SPACE, " ").encode()


class _Stream(BytesStream):
    """Leaves out the space that the model puts before every text."""

    _began = False

    def feed(self, token: int) -> str:
        text = super().feed(token)
        if self._began or not text:
            return text
        self._began = True
        return text.removeprefix(" ")


def _given(token: int) -> int | None:
    return token if token >= 0 else None
