"""A tokenizer that needs no training and no download: one token per byte, and a few specials.

Ids 0 to 255 are the bytes; the specials follow. A model's vocabulary may be padded beyond `vocab_size`; padding ids
decode to nothing.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

BYTES = 256
SPECIALS = ("<|begin|>", "<|end|>", "<|pad|>")
OWN_FILE = "archc_tokenizer.json"

Tokens: TypeAlias = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class ByteTokenizer:
    """UTF-8 bytes as tokens. `begin`, `end` and `pad` are ids of specials that `encode` never produces.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("é!")
    [195, 169, 33]
    >>> tokenizer.decode([195, 169, 33, tokenizer.end])
    'é!'
    """

    begin: int = BYTES
    end: int = BYTES + 1
    pad: int = BYTES + 2

    FILE: ClassVar[dict[str, Any]] = {"archc_tokenizer": 1, "kind": "bytes", "specials": list(SPECIALS)}

    @property
    def vocab_size(self) -> int:
        """Bytes and specials: 259."""
        return BYTES + len(SPECIALS)

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of `text`; lone surrogates, which UTF-8 has no bytes for, become `?`."""
        return list(text.encode("utf-8", errors="replace"))

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """The bytes of each text."""
        return [np.frombuffer(text.encode("utf-8", errors="replace"), dtype=np.uint8) for text in texts]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the bytes; specials and padding are left out, broken UTF-8 becomes U+FFFD."""
        return bytes(t for t in tokens if t < BYTES).decode("utf-8", errors="replace")

    def stream(self) -> ByteStream:
        """A decoder that takes one token at a time."""
        return ByteStream()

    @property
    def hash(self) -> str:
        """sha256 of what its file says."""
        return hashlib.sha256(json.dumps(self.FILE).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the file by which it travels."""
        (folder / OWN_FILE).write_text(json.dumps(self.FILE, indent=2) + "\n", encoding="utf-8")


class ByteStream:
    """Incremental decoding: text appears when its last byte does, so that no character is ever cut in two.

    >>> stream = ByteStream()
    >>> [stream.feed(token) for token in (195, 169, 33)]
    ['', 'é', '!']
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that `token` completes, possibly empty."""
        return self._decoder.decode(bytes([token])) if token < BYTES else ""

    def finish(self) -> str:
        """What an unfinished character at the end decodes to."""
        return self._decoder.decode(b"", final=True)
