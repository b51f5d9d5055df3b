"""Perplexity against a forward pass per token, and against models whose every probability is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archc.evaluate import scoring
from archc.evaluate.perplexity import Perplexity
from archc.evaluate.subject import Subject
from archc.evaluate.texts import encode
from archc.kernels.errors import ArchcError
from archc.train.corpus import Document
from tests.evaluate.models import TEXTS, VOCAB, told, values


@torch.no_grad()
def slow_nats(subject: Subject, length: int, stride: int) -> float:
    """The nats of all tokens, each from a forward pass of its own over the context that its window has."""
    total = 0.0
    for document in TEXTS:
        tokens = encode(document, subject.tokenizer).tokens
        for i in range(1, len(tokens)):
            windows_before = max(0, math.ceil((i - length) / stride))
            end = min(length + windows_before * stride, len(tokens) - 1)  # the last token of i's window
            logits = subject.model(tokens[None, max(0, end - length) : i])[0, -1]
            total -= float(logits.log_softmax(-1)[tokens[i]])
    return total


@pytest.mark.parametrize(("length", "stride"), [(512, 256), (16, 5), (7, 7), (1, 1)])
def test_it_is_a_forward_pass_per_token(small: Subject, length: int, stride: int) -> None:
    found = values(small, Perplexity(length=length, stride=stride), batch_tokens=40)
    size = sum(len(d.text.encode()) for d in TEXTS)
    assert found["tokens"] == found["bytes"] == size
    nats = slow_nats(small, length, stride)
    assert found["nats_per_token"] == pytest.approx(nats / size, rel=1e-9)
    assert found["bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-9)
    assert found["perplexity"] == pytest.approx(math.exp(nats / size), rel=1e-9)
    assert found["documents"] == 3  # the empty one has nothing to score


def test_neither_batches_nor_chunks_change_it(small: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = values(small, Perplexity(length=16))
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 3 * VOCAB)
    assert values(small, Perplexity(length=16), batch_tokens=1) == pytest.approx(whole, rel=1e-12)


def test_a_model_that_knows_the_bytes_alone_needs_eight_bits() -> None:
    logits = torch.full((VOCAB,), -math.inf)
    logits[:256] = 0.0
    assert values(told(lambda row: logits.expand(len(row), VOCAB)), Perplexity())["bits_per_byte"] == pytest.approx(8)


def test_a_model_that_knows_what_comes_needs_none() -> None:
    text = b"abcdefghij"
    alphabet = Document("alphabet", text.decode())

    def answer(row: Tensor) -> Tensor:
        after = torch.where(row == 256, ord("a"), row + 1)
        return torch.nn.functional.one_hot(after, VOCAB) * 100.0

    found = values(told(answer), Perplexity(), texts=(alphabet,))
    assert found["perplexity"] == pytest.approx(1) and found["accuracy"] == 1.0


def test_a_tokenizer_of_another_model_is_refused(small: Subject) -> None:
    with pytest.raises(ArchcError, match="token 256, and the model has a vocabulary of 200"):
        values(replace(small, vocab=200), Perplexity())


def test_nothing_to_measure_is_refused(small: Subject) -> None:
    with pytest.raises(ArchcError, match="no text to measure on"):
        values(small, Perplexity(), texts=(Document("a", ""),))


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_leaves_tokens_out_is_refused(stride: int) -> None:
    with pytest.raises(ArchcError, match=f"`stride` must be from 1 to `length`.*length=8, stride={stride}"):
        Perplexity(length=8, stride=stride)
