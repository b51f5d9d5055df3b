"""A small vocabulary of one's own: byte-level BPE, trained by the `tokenizers` package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from archc.kernels.errors import ArchcError
from archc.kernels.optional import optional
from archc.train.bytes import SPECIALS
from archc.train.tokenizers.base import Tokenizer, load_tokenizer
from archc.train.tokenizers.huggingface import HF_FILE, TOKENIZER_CONFIG
from archc.train.tokenizers.tiktoken import PATTERNS

BYTES = 256
SMALLEST = BYTES + len(SPECIALS)


def train_bpe(texts: Iterable[str], folder: Path, *, vocab: int) -> Tokenizer:
    """Train a vocabulary on texts and write it into `folder`; any text comes back from its tokens.

    Words are cut as cl100k does. The specials come first, then the bytes, then what was learnt: of a small text fewer
    than `vocab`, which is then an error.
    """
    if vocab < SMALLEST:
        raise ArchcError(
            f"a vocabulary has {SMALLEST} tokens at least, the bytes and {len(SPECIALS)} more: got {vocab}"
        )
    tokenizers = optional("tokenizers", extra="train", purpose="training a tokenizer")
    pre, level = tokenizers.pre_tokenizers, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    words = pre.Split(tokenizers.Regex(PATTERNS["cl100k"]), behavior="isolated")
    engine.pre_tokenizer = pre.Sequence([words, level])
    engine.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=list(SPECIALS), initial_alphabet=level.alphabet(), show_progress=False
    )
    engine.train_from_iterator(texts, trainer)
    if engine.get_vocab_size() < vocab:
        made = engine.get_vocab_size()
        raise ArchcError(f"the text gives a vocabulary of {made} tokens: got {vocab}; give more text or a smaller one")
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(str(folder / HF_FILE))
    begin, end, pad = SPECIALS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": end,
        "pad_token": pad,
        "clean_up_tokenization_spaces": False,
    }
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return load_tokenizer(folder)
