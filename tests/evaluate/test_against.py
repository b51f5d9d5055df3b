"""Held against a teacher: the formula, written out over whole logits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from archc.evaluate import scoring
from archc.evaluate.against import Against
from archc.evaluate.subject import Subject
from archc.evaluate.texts import encode
from archc.kernels.errors import ArchcError
from archc.train.bytes import ByteTokenizer
from tests.evaluate.models import TEXTS, VOCAB, values


@torch.no_grad()
def test_it_is_the_formula(small: Subject, other: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 5 * VOCAB)
    tokens = [encode(d, small.tokenizer).tokens[None, :-1] for d in TEXTS if d.text]
    p, q = (torch.cat([s.model(t)[0].log_softmax(-1) for t in tokens]) for s in (other, small))
    found = values(small, Against(), teacher=other, batch_tokens=100)
    assert found["tokens"] == len(p)
    assert found["agreement"] == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    assert found["kl_teacher_student"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()))
    assert found["kl_student_teacher"] == pytest.approx(float((q.exp() * (q - p)).sum(-1).mean()))


def test_a_model_agrees_with_itself(small: Subject) -> None:
    found = values(small, Against(length=8), teacher=small)
    assert (found["agreement"], found["kl_teacher_student"], found["kl_student_teacher"]) == (1.0, 0.0, 0.0)


def test_other_vocabularies_are_named_with_their_sizes(small: Subject) -> None:
    with pytest.raises(ArchcError, match="vocabularies differ: small has 272 tokens, large has 999"):
        values(small, Against(), teacher=replace(small, name="large", vocab=999))


def test_other_tokenizers_are_refused(small: Subject) -> None:
    @dataclass(frozen=True)
    class Upper(ByteTokenizer):
        hash = "upper"  # type: ignore[assignment]

        def encode(self, text: str) -> list[int]:
            return super().encode(text.upper())

    with pytest.raises(ArchcError, match="tokenizers of small and shouting differ: they part a otherwise"):
        values(small, Against(), teacher=replace(small, name="shouting", tokenizer=Upper()))


def test_a_teacher_is_needed(small: Subject) -> None:
    with pytest.raises(ArchcError, match="--against TEACHER"):
        values(small, Against())
