"""iterative: the order in which blocks go when the least important one is removed and the rest measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from archc.kernels.errors import PassError
from archc.passes.importance.base import Batch, Estimator, Measurement, Results, Subject, estimator
from archc.passes.importance.removal import KL, HiddenMSE, LogitMSE, Perplexity, Removal
from archc.passes.importance.removals import removals, results

_MEASURES: Mapping[str, type[Removal]] = {cls.name: cls for cls in (LogitMSE, HiddenMSE, KL, Perplexity)}


@estimator("iterative")
class Iterative(Estimator):
    """Greedy depth ranking: score 0 for the block that goes first, 1 for the next (Nemotron Elastic 2025, depth).

    `measure` says which block matters least, against the whole model. After `remove` blocks the others score by their
    last measure's order; else it goes on to the last block. Tokens of all batches are kept, and nothing else of them.
    """

    measure: Literal["logit_mse", "hidden_mse", "kl", "perplexity"] = "logit_mse"
    remove: int | None = None

    def start(self, subject: Subject) -> Measurement:
        _ = subject.head
        if self.remove is not None and not 1 <= self.remove <= len(subject.blocks):
            raise PassError(f"{self}: there are {len(subject.blocks)} blocks to remove: got {self.remove}")
        return _Iterative(self, subject)


class _Iterative(Measurement):
    def __init__(self, options: Iterative, subject: Subject) -> None:
        self.by, self.subject = _MEASURES[options.measure](), subject
        self.rounds = len(subject.blocks) if options.remove is None else options.remove
        self.kept: list[Batch] = []

    def batch(self, batch: Batch) -> None:
        self.kept.append(batch)

    def blocks(self) -> Mapping[str, float]:
        import torch

        gone: list[str] = []
        left, order = self.subject, list(self.subject.blocks)
        with torch.no_grad():
            for _ in range(self.rounds):
                order = _ranked(self.by, self.subject, left, self.kept)
                gone.append(order[0])
                left = left.without(order[0])
        return {block: float(place) for place, block in enumerate([*gone, *order[1:]])}


def _ranked(by: Removal, whole: Subject, left: Subject, batches: Sequence[Batch]) -> list[str]:
    """Blocks of what is left, the least important first."""
    sums = dict.fromkeys(left.blocks, (0.0, 0.0))
    for batch in batches:
        full: Results = results(whole, batch)
        for block, found in removals(left, batch):
            above, below = by.terms(full, found, batch)
            sums[block] = (sums[block][0] + above, sums[block][1] + below)
    return sorted(sums, key=lambda block: by.value(*sums[block]))
