"""tiktoken rank files: lines of `base64 rank`, beside a `tiktoken.json` with what the ranks do not say.

    {"pattern": "cl100k", "special_tokens": {"<|begin|>": 100256, "<|end|>": 100257}, "begin": ..., "end": ...}

`pattern` is a regular expression, or the name of a well-known one; `begin` and `end` name special tokens.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archc.kernels.errors import ArchcError
from archc.kernels.optional import optional
from archc.train.bytes import Tokens
from archc.train.tokenizers.base import BytesStream, TextStream, digest, read_json, tokenizer_format

RANKS_FILE = "tokenizer.tiktoken"
SETTINGS_FILE = "tiktoken.json"

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def _is_ranks(head: bytes) -> bool:
    return re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", head) is not None


@tokenizer_format("tiktoken", RANKS_FILE, "*.tiktoken", "tokenizer.model", when=_is_ranks)
class TiktokenTokenizer:
    """Byte-level BPE by the `tiktoken` package."""

    def __init__(self, path: Path) -> None:
        tiktoken = optional("tiktoken", extra="train", purpose=f"reading {path}")
        self._path, self._settings = path, _settings(path)
        special: dict[str, int] = self._settings.get("special_tokens", {})
        try:
            self._engine: Any = tiktoken.Encoding(
                path.stem,
                pat_str=PATTERNS.get(self._settings["pattern"], self._settings["pattern"]),
                mergeable_ranks=_ranks(path),
                special_tokens=special,
            )
        except (ValueError, TypeError, AssertionError) as error:
            raise ArchcError(f"{path} is not a tokenizer: {error}") from error
        self.begin = self._named("begin", special)
        self.end = self._named("end", special)
        self._specials = frozenset(special.values())

    def _named(self, field: str, special: dict[str, int]) -> int | None:
        name = self._settings.get(field)
        if name is not None and name not in special:
            raise ArchcError(f"{self._path.with_name(SETTINGS_FILE)}: `{field}` names no special token: got {name!r}")
        return None if name is None else special[name]

    @property
    def vocab_size(self) -> int:
        """Ranks and special tokens."""
        return int(self._engine.n_vocab)

    @property
    def hash(self) -> str:
        """sha256 of the ranks and the settings."""
        return digest(self._path, sorted(self._settings.items(), key=str))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens that it spells out count."""
        return list(self._engine.encode(text, allowed_special="all"))

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, on all cores."""
        made = self._engine.encode_batch(list(texts), allowed_special="all")
        return [np.array(one, dtype=np.uint32) for one in made]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, specials and padding left out."""
        return b"".join(map(self._spelt, tokens)).decode("utf-8", errors="replace")

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""
        return BytesStream(self._spelt)

    def save(self, folder: Path) -> None:
        """Copy the ranks and the settings."""
        shutil.copyfile(self._path, folder / RANKS_FILE)
        (folder / SETTINGS_FILE).write_text(json.dumps(self._settings, indent=2) + "\n", encoding="utf-8")

    def _spelt(self, token: int) -> bytes:
        if token in self._specials:
            return b""
        try:
            return bytes(self._engine.decode_single_token_bytes(token))
        except KeyError:
            return b""


def _settings(path: Path) -> dict[str, Any]:
    beside = path.with_name(SETTINGS_FILE)
    found = read_json(beside)
    known = ", ".join(PATTERNS)
    example = '{"pattern": "cl100k", "special_tokens": {"<|end|>": 100257}, "end": "<|end|>"}'
    if not isinstance(found.get("pattern"), str):
        raise ArchcError(
            f"{path} has ranks only: write how text is cut into {beside}, as in {example}; `pattern` is a regular"
            f" expression or one of {known}"
        )
    special = found.get("special_tokens", {})
    if not isinstance(special, dict) or not all(isinstance(token, int) for token in special.values()):
        raise ArchcError(f"{beside}: `special_tokens` maps texts to ids, as in {example}")
    return found


def _ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        token, _, rank = line.partition(b" ")
        try:
            if line:
                ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise ArchcError(f"{path}:{number}: expected `base64 rank`: {error}") from error
    return ranks
