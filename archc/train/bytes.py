"""A tokenizer that needs no training and no download: one token per byte, and a few specials.

Ids 0 to 255 are the bytes; the specials follow. A model's vocabulary may be padded beyond `vocab_size`; padding ids
decode to nothing.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

BYTES = 256
SPECIALS = ("<|begin|>", "<|end|>", "<|pad|>")


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

    @property
    def vocab_size(self) -> int:
        """Bytes and specials: 259."""
        return BYTES + len(SPECIALS)

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of `text`; lone surrogates, which UTF-8 has no bytes for, become `?`."""
        return list(text.encode("utf-8", errors="replace"))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the bytes; specials and padding are left out, broken UTF-8 becomes U+FFFD."""
        return bytes(t for t in tokens if t < BYTES).decode("utf-8", errors="replace")

    def stream(self) -> ByteStream:
        """A decoder that takes one token at a time."""
        return ByteStream()


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
