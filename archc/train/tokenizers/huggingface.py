"""Hugging Face fast tokenizers: `tokenizer.json`, read by the `tokenizers` package."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archc.kernels.errors import ArchcError
from archc.kernels.optional import optional
from archc.train.bytes import Tokens
from archc.train.tokenizers.base import TextStream, digest, read_json, tokenizer_format

HF_FILE = "tokenizer.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"

# What lies beside the file and belongs to it.
_BESIDE = (TOKENIZER_CONFIG, "special_tokens_map.json", CHAT_TEMPLATE)


@tokenizer_format("huggingface", HF_FILE, when=lambda head: head.lstrip().startswith(b"{"))
class HFTokenizer:
    """A Hugging Face fast tokenizer.

    `begin` and `end` are what generation_config.json, else tokenizer_config.json beside it calls bos and eos.
    """

    def __init__(self, path: Path) -> None:
        tokenizers = optional("tokenizers", extra="train", purpose=f"reading {path}")
        try:
            self._engine: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust engine raises bare Exception for a file it cannot read
            raise ArchcError(f"{path} is not a tokenizer: {error}") from error
        self._engine.no_truncation()
        self._engine.no_padding()
        self._decoders: Any = tokenizers.decoders
        self._path = path
        self.begin = self._special("bos")
        self.end = self._special("eos")

    def _special(self, which: str) -> int | None:
        """A special id: by number in the generation config, the first where it lists several; else by its text."""
        stored = read_json(self._path.with_name(GENERATION_CONFIG)).get(f"{which}_token_id")
        first = stored[0] if isinstance(stored, list) and stored else stored
        if isinstance(first, int):
            return first
        spelt = read_json(self._path.with_name(TOKENIZER_CONFIG)).get(f"{which}_token")
        spelt = spelt.get("content") if isinstance(spelt, dict) else spelt
        return self._engine.token_to_id(spelt) if isinstance(spelt, str) else None

    @property
    def vocab_size(self) -> int:
        """The ids that the file assigns, added tokens included."""
        ids: dict[str, int] = self._engine.get_vocab(with_added_tokens=True)
        return max(ids.values()) + 1

    @property
    def hash(self) -> str:
        """sha256 of the file and the special ids."""
        return digest(self._path, self.begin, self.end)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self._engine.encode(text, add_special_tokens=False).ids)

    def encode_many(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, on all cores."""
        made = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.uint32) for one in made]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of token ids, specials left out."""
        return str(self._engine.decode(list(tokens), skip_special_tokens=True))

    def stream(self) -> TextStream:
        """A decoder that takes one token at a time."""
        return _HFStream(self._engine, self._decoders.DecodeStream(skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """Copy the file and what belongs to it."""
        shutil.copyfile(self._path, folder / HF_FILE)
        for name in (*_BESIDE, GENERATION_CONFIG):
            if self._path.with_name(name).is_file() and not (folder / name).exists():
                shutil.copyfile(self._path.with_name(name), folder / name)


class _HFStream:
    """`tokenizers`' own incremental decoder behind TextStream."""

    def __init__(self, engine: Any, decoder: Any) -> None:
        self._engine, self._decoder = engine, decoder

    def feed(self, token: int) -> str:
        return self._decoder.step(self._engine, token) or ""

    def finish(self) -> str:
        return ""
