"""zero_shot: the next-token loss of a candidate as the passes leave it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from archc.importance.calibration import Calibration, Sampling
from archc.search.ladder import Candidate, Report, Scorer
from archc.searching.base import Base
from archc.searching.rungs.base import RungOptions, check_weights, rung


@rung("zero_shot")
@dataclass(frozen=True, kw_only=True)
class ZeroShot(Sampling, RungOptions):
    """Nats a token on calibration text, without any training. The candidate is held in memory."""

    def below(self, folder: Path) -> Self:
        return Sampling.below(self, folder)

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        check_weights(self.name, base)

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        return _ZeroShot(self, base)


@dataclass(frozen=True, eq=False)
class _ZeroShot:
    options: ZeroShot
    base: Base
    name: str = ZeroShot.name

    @functools.cached_property
    def text(self) -> Calibration:
        return self.options.text(self.base.path, self.base.weights.graph)

    @property
    def identity(self) -> str:
        told = (self.base.identity, self.text.about, self.options.dtype, len(self.text.numbers))
        return repr(told)

    def score(self, candidate: Candidate, report: Report) -> float:
        import torch

        from archc.ir.execute import execute
        from archc.passes.importance.targets import next_token_loss

        graph, weights = self.base.made(candidate, self.options.dtype)
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in self.text:
                logits = execute(graph, weights, batch.inputs, outputs=("logits",))["logits"]
                loss, here = next_token_loss(logits, batch)
                total, count = total + float(loss), count + here
        return total / max(count, 1)
