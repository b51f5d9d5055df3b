"""Held-out text of a run, and the loss on it: nats a token and bits a byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from archc.train.batch import Batch
from archc.train.losses.chunked import shifted
from archc.train.losses.next_token import shifted_entropy
from archc.train.tokenizers import Tokenizer


@dataclass(frozen=True)
class HeldOut:
    """Batches to measure on; `size_bytes` is what the tokens that count stand for, `vocab` the width of the logits."""

    batches: Sequence[Batch]
    vocab: int
    size_bytes: int = 0

    @torch.no_grad()
    def measure(self, model: Any, device: torch.device) -> dict[str, float]:
        """`held_out/loss`, in nats a token, and `held_out/bits_per_byte`."""
        totals, counts = [], []
        for batch in self.batches:
            there = batch.to(device)
            h = model.hidden(there.tokens, there.segments)
            totals.append(shifted_entropy(model, h, there, ahead=1, width=self.vocab).double())
            counts.append(shifted(there, 1)[1].sum().double())
        nats, count = torch.stack([torch.stack(totals).sum(), torch.stack(counts).sum()]).tolist()
        found = {"held_out/loss": nats / max(count, 1.0)}
        if self.size_bytes:
            found["held_out/bits_per_byte"] = nats / math.log(2) / self.size_bytes
        return found


def bytes_of(batches: Sequence[Batch], tokenizer: Tokenizer) -> int:
    """Bytes of the text that the predicted tokens of batches stand for."""
    found = 0
    for batch in batches:
        targets, weights = shifted(batch, 1)
        for row, weight in zip(targets, weights, strict=True):
            found += len(tokenizer.decode(row[weight > 0].tolist()).encode("utf-8"))
    return found
