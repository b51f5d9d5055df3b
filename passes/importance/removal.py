"""Importance of a block by what the model gives without it: logits, hidden state, distribution, perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping

from archc.kernels.errors import PassError
from archc.passes.importance.base import Batch, Estimator, Measurement, Results, Subject, estimator
from archc.passes.importance.targets import next_token_loss

_LARGEST = 700.0  # nats of a token whose perplexity a float still holds


class Removal(Estimator):
    """Base: compares results of two runs, summed over batches as a numerator and a denominator."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        """What a batch adds to both."""
        raise NotImplementedError

    def value(self, above: float, below: float) -> float:
        """The score of both sums: 0 where nothing changes."""
        if not above:
            return 0.0
        return above / below if below else math.inf

    def start(self, subject: Subject) -> Measurement:
        _ = subject.head
        return _Removals(self)


class _Removals(Measurement):
    removes = True

    def __init__(self, by: Removal) -> None:
        self.by = by
        self.sums: dict[str, tuple[float, float]] = {}

    def without(self, block: str, full: Results, found: Results, batch: Batch) -> None:
        above, below = self.by.terms(full, found, batch)
        before = self.sums.get(block, (0.0, 0.0))
        self.sums[block] = (before[0] + above, before[1] + below)

    def blocks(self) -> Mapping[str, float]:
        return {block: self.by.value(*sums) for block, sums in self.sums.items()}


@estimator("logit_mse")
class LogitMSE(Removal):
    """Squared change of the logits over their squares, both summed over all tokens (Nemotron Elastic 2025)."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        pairs = [(x.double(), y.double()) for x, y in zip(full.logits, without.logits, strict=True)]
        return sum(float((x - y).square().sum()) for x, y in pairs), sum(float(x.square().sum()) for x, _ in pairs)


@estimator("hidden_mse")
class HiddenMSE(Removal):
    """Mean squared change of the hidden state before the head (MiniPuzzle: Nemotron-H 2025)."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        changes = (float((x.double() - y).square().sum()) for x, y in zip(full.hidden, without.hidden, strict=True))
        return sum(changes), full.hidden.numel()


@estimator("kl")
class KL(Removal):
    """Divergence of the next token's distribution from that of the whole model, a token (Minitron-SSM 2025)."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        total = 0.0
        for x, y in zip(full.logits, without.logits, strict=True):
            p, q = x.double().log_softmax(-1), y.double().log_softmax(-1)
            total += float((p.exp() * (p - q)).sum())
        return total, batch.tokens.numel()


@estimator("perplexity")
class Perplexity(Removal):
    """Perplexity of the model without the block (Minitron 2024)."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        loss, count = next_token_loss(without.logits, batch)
        return float(loss), count

    def value(self, above: float, below: float) -> float:
        if not below:
            raise PassError("perplexity: no token of the batches has a next one to predict")
        return math.exp(min(above / below, _LARGEST))
