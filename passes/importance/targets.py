"""Next tokens: which positions predict one, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.passes.importance.base import Batch

if TYPE_CHECKING:
    from torch import Tensor


def next_token_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """The summed cross-entropy of logits [B, L, V] with the next tokens of the same document, and how many there are.

    It is a tensor [] in fp64 that gradients flow through; one sample at a time is widened."""
    import torch
    import torch.nn.functional as F

    ahead, here = batch.tokens[:, 1:], torch.ones_like(batch.tokens[:, 1:], dtype=torch.bool)
    if batch.segments is not None:
        here = batch.segments[:, 1:] == batch.segments[:, :-1]
    total = torch.zeros((), dtype=torch.float64)
    for row, targets, kept in zip(logits, ahead, here, strict=True):
        total = total + F.cross_entropy(row[:-1][kept].double(), targets[kept].long(), reduction="sum")
    return total, int(here.sum())
