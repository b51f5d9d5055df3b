"""A model held against a teacher on the same text: how often both prefer the same token, and how far apart they are."""

from __future__ import annotations

import torch
from torch import Tensor

from archc.evaluate.metric import Figure, Setting, metric
from archc.evaluate.perplexity import Windowed
from archc.evaluate.scoring import chunks, hidden_rows, log_probabilities
from archc.evaluate.subject import Subject
from archc.evaluate.windows import WindowBatch, batches
from archc.kernels.errors import ArchcError


@metric("against")
class Against(Windowed):
    """Both models read the same windows; every token of the texts counts once."""

    length: int = 512
    stride: int | None = None

    @torch.inference_mode()
    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """Top-1 agreement, and the Kullback-Leibler divergence both ways, in nats a token."""
        teacher = checked_teacher(on)
        found = self.windows(on)
        total = torch.zeros(3, dtype=torch.float64)
        with on.progress(f"against {teacher.name}", len(found)) as advance:
            for batch in batches(found, batch_tokens=on.batch_tokens):
                total += compared(on.model, teacher, batch)
                advance(len(batch.inputs))
        tokens = sum(e.scored for e in on.encoded)
        agree, forward, reverse = (total / tokens).tolist()
        return (
            Figure("agreement", agree, "same likeliest token", f"{agree:.2%}"),
            Figure("kl_teacher_student", forward, "KL(teacher || student), nats a token", f"{forward:.4f}"),
            Figure("kl_student_teacher", reverse, "KL(student || teacher), nats a token", f"{reverse:.4f}"),
            Figure("tokens", tokens, "tokens compared", f"{tokens:,}"),
        )


def checked_teacher(on: Setting) -> Subject:
    """The teacher. Raises ArchcError where there is none, or it speaks of other tokens than the model."""
    teacher = on.teacher
    if teacher is None:
        raise ArchcError("`against` compares with a teacher: say which (--against TEACHER)")
    if teacher.vocab != on.model.vocab:
        raise ArchcError(
            f"vocabularies differ: {on.model.name} has {on.model.vocab} tokens, {teacher.name} has {teacher.vocab}"
        )
    mine, theirs = on.model.tokenizer, teacher.tokenizer
    if mine.hash == theirs.hash:
        return teacher
    other = next((d.name for d in on.texts if mine.encode(d.text) != theirs.encode(d.text)), None)
    if other is not None:
        raise ArchcError(f"the tokenizers of {on.model.name} and {teacher.name} differ: they part {other} otherwise")
    return teacher


def compared(student: Subject, teacher: Subject, batch: WindowBatch) -> Tensor:
    """Sums over the scored tokens, fp64 `[3]`: same likeliest token, KL(teacher || student), KL(student || teacher)."""
    mine, theirs = hidden_rows(student, batch), hidden_rows(teacher, batch)
    total = torch.zeros(3, dtype=torch.float64)
    for part in chunks(len(mine), student.vocab):
        p, q = log_probabilities(teacher, theirs[part]), log_probabilities(student, mine[part]).to(theirs.device)
        same = (p.argmax(-1) == q.argmax(-1)).double().sum()
        total += torch.stack([same, _divergence(p, q), _divergence(q, p)]).cpu()
    return total


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """The sum over rows of KL(p || q), of log-probabilities; a token that p excludes adds nothing."""
    terms = torch.where(p.isneginf(), 0.0, p.exp() * (p - q))
    return terms.sum(-1).double().sum()
