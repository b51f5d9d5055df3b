"""influence: how far a block turns the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archc.passes.importance.base import Batch, Estimator, Measurement, Subject, estimator

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.execute import Reading


@estimator("influence")
class Influence(Estimator):
    """Block influence: 1 - mean over tokens of the cosine of the stream before and after (ShortGPT, Men et al. 2024).

    Minitron's depth score; ModelOpt ranks layers by it.
    """

    def start(self, subject: Subject) -> Measurement:
        return _Influence(subject)


class _Influence(Measurement):
    watches = True

    def __init__(self, subject: Subject) -> None:
        self.spans = {block: subject.span(block) for block in subject.blocks}
        self.last = {before: block for block, (before, _) in self.spans.items()}  # that begins at a place
        self.ends = {after: block for block, (_, after) in self.spans.items()}
        self.stream: dict[str, Tensor] = {}
        self.sums = dict.fromkeys(self.spans, 0.0)
        self.tokens = 0

    def read(self, reading: Reading, batch: Batch) -> None:
        """The stream where a block begins is kept until it ends."""
        if reading.name:
            return
        node = reading.node.id
        if node in self.ends:
            block = self.ends[node]
            before = self.spans[block][0]
            self._add(block, self.stream[before], reading.read())
            if self.last[before] == block:
                del self.stream[before]
        if node in self.last:
            self.stream[node] = reading.read()

    def _add(self, block: str, before: Tensor, after: Tensor) -> None:
        import torch

        for x, y in zip(before, after, strict=True):  # a sample at a time is widened
            self.sums[block] += float(torch.cosine_similarity(x.double(), y.double(), dim=-1).sum())

    def batch(self, batch: Batch) -> None:
        self.tokens += batch.tokens.numel()

    def blocks(self) -> Mapping[str, float]:
        return {block: 1.0 - total / self.tokens for block, total in self.sums.items()}
