"""What models say of scored positions: hidden states first, vocabulary-sized tensors a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from archc.evaluate.subject import Subject
from archc.evaluate.windows import WindowBatch

CHUNK_ELEMENTS = 2**24  # of logits: 64 MiB in fp32


def hidden_rows(subject: Subject, batch: WindowBatch) -> Tensor:
    """Hidden states `[n, D]` of the positions that predict the scored tokens, in order."""
    device = subject.device
    h: Tensor = subject.model.hidden(batch.inputs.to(device))
    return h[batch.scored.to(device)]


def chunks(rows: int, vocab: int) -> Iterator[slice]:
    """Slices of `rows` positions whose logits stay small."""
    step = max(CHUNK_ELEMENTS // vocab, 1)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def log_probabilities(subject: Subject, rows: Tensor) -> Tensor:
    """Log-probabilities `[n, V]` of the next token for hidden states `[n, D]`, in fp32 or wider."""
    logits: Tensor = subject.model.logits(rows[None])[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def token_nats(subject: Subject, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Nats of every scored token, fp64 `[n]`, and whether it was the likeliest, on the CPU."""
    rows, targets = hidden_rows(subject, batch), batch.targets.to(subject.device)
    nats, likeliest = [], []
    for part in chunks(len(rows), subject.vocab):
        logs = log_probabilities(subject, rows[part])
        nats.append(-logs.gather(-1, targets[part, None])[:, 0].double().cpu())
        likeliest.append((logs.argmax(-1) == targets[part]).cpu())
    return torch.cat(nats), torch.cat(likeliest)
