"""Documents as one stream of tokens, and windows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from archc.kernels.errors import ArchcError
from archc.train.corpus import Corpus, Document
from archc.train.tokenizers import Tokenizer


@dataclass(frozen=True)
class TokenData:
    """Token streams, int32 `[N]` each, to train on and to measure on."""

    train: Tensor
    held_out: Tensor


def tokenized(corpus: Corpus, tokenizer: Tokenizer) -> TokenData:
    """Both parts of a corpus as token streams."""
    return TokenData(packed(corpus.train, tokenizer), packed(corpus.held_out, tokenizer))


def packed(documents: Iterable[Document], tokenizer: Tokenizer) -> Tensor:
    """Documents end to end, each between the tokenizer's `begin` and `end`: int32 `[N]`."""
    stream: list[int] = []
    for document in documents:
        stream += [tokenizer.begin] if tokenizer.begin is not None else []
        stream += tokenizer.encode(document.text)
        stream += [tokenizer.end] if tokenizer.end is not None else []
    return torch.tensor(stream, dtype=torch.int32)


def random_windows(stream: Tensor, *, batch: int, length: int, generator: torch.Generator) -> Tensor:
    """`batch` windows of `length` tokens that start anywhere: int64 `[batch, length]`."""
    _check_length(stream, length)
    starts = torch.randint(len(stream) - length + 1, (batch, 1), generator=generator)
    return stream[starts + torch.arange(length)].long()


def spread_windows(stream: Tensor, *, count: int, length: int) -> Tensor:
    """At most `count` windows that do not overlap, evenly spread over the stream: int64 `[<= count, length]`."""
    _check_length(stream, length)
    count = min(count, len(stream) // length)
    starts = torch.linspace(0, len(stream) - length, count).long()[:, None]
    return stream[starts + torch.arange(length)].long()


def _check_length(stream: Tensor, length: int) -> None:
    if len(stream) < length:
        raise ArchcError(f"a window of {length} tokens does not fit a text of {len(stream)}: use a shorter --seq")
