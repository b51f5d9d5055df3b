"""What replacing layers of a model loses: each variant alone, and combinations, against the parent on one text.

A replaced layer changes nothing before it, so its run begins with the parent's residual stream at that place, which is
carried from layer to layer for all batches. In memory are, beside the model, that stream and the last hidden state.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from archc.ir.execute import execute
from archc.kernels.errors import ArchcError
from archc.passes import Pass, Pipeline
from archc.passes.importance.base import Batch, Results, Subject
from archc.passes.importance.removal import KL, HiddenMSE, LogitMSE, Removal
from archc.passes.importance.removals import results
from archc.passes.importance.targets import next_token_loss
from archc.search.ladder import Cache
from archc.search.library import Library, Replacement
from archc.searching.mip_file import Metric
from archc.searching.parent import Parent

if TYPE_CHECKING:
    from torch import Tensor

Streams = Sequence[Mapping[str, "Tensor"]]


class LossIncrease(Removal):
    """The next token's loss above that of the whole model, a token: below 0 where it is better."""

    def terms(self, full: Results, without: Results, batch: Batch) -> tuple[float, float]:
        loss, count = next_token_loss(without.logits, batch)
        return float(loss - next_token_loss(full.logits, batch)[0]), count


METRICS: Mapping[Metric, Removal] = {
    "kl": KL(),
    "loss": LossIncrease(),
    "hidden_mse": HiddenMSE(),
    "logit_mse": LogitMSE(),
}


@dataclass(frozen=True)
class Measured:
    """What a model loses, or why that could not be measured."""

    loss: float
    failed: str = ""


@dataclass(frozen=True, eq=False)
class Ruler:
    """Measures models made of a parent by a metric; what is known of them by `cache` is not measured again.

    `fitted` are the passes of the library with something to fit, which are fitted together once that is needed."""

    parent: Parent
    metric: Metric
    cache: Cache
    fitted: tuple[Pass, ...] = ()

    def key(self, pipeline: Pipeline) -> str:
        """What the loss of a model is cached by: the parent, the text, how it runs, and the passes."""
        text = self.parent.text
        told = ["mip", self.metric, self.parent.identity, text.about, text.tokens, self.parent.dtype, str(pipeline)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def combination(self, pipeline: Pipeline) -> Measured:
        """What the passes lose together."""
        return self._measured(pipeline, [{} for _ in self.batches])

    def replacements(
        self, library: Library, tell: Callable[[Replacement], None] = lambda one: None
    ) -> dict[Replacement, Measured]:
        """What each replacement loses alone; a layer that stays loses nothing."""
        found: dict[Replacement, Measured] = {}
        streams: Streams | None = None
        for options in library.layers:
            for one in options:
                if one.variant.passes and self.cache.get(self.key(one.pipeline)) is None:
                    streams = self._streams(one.block, streams)
                found[one] = self._measured(one.pipeline, streams or ()) if one.variant.passes else Measured(0.0)
                tell(one)
        return found

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The text."""
        return tuple(self.parent.text)

    # -- runs ----------------------------------------------------------------------------------------------------------

    @cached_property
    def _subject(self) -> Subject:
        """The parent, its library's passes fitted."""
        self.parent.fit(self.fitted)
        return self.parent.subject

    @cached_property
    def _ends(self) -> list[Mapping[str, Tensor]]:
        """The parent's hidden state before its head, of every batch."""
        return self._run_to(self._subject.head[1], [{} for _ in self.batches])

    def _streams(self, block: str, known: Streams | None) -> Streams:
        """The residual stream before a block, of every batch, from one further to the front."""
        before = self._subject.span(block)[0]
        if known is not None and all(before in one for one in known):
            return known
        return self._run_to(before, known or [{} for _ in self.batches])

    def _run_to(self, node: str, known: Streams) -> list[Mapping[str, Tensor]]:
        import torch

        subject = self._subject
        with torch.no_grad():
            return [
                execute(subject.graph, subject.weights, {**batch.inputs, **there}, (node,), outputs=())
                for batch, there in zip(self.batches, known, strict=True)
            ]

    def _measured(self, pipeline: Pipeline, streams: Streams) -> Measured:
        """The loss of a model, run from what is known of the parent's streams."""
        key = self.key(pipeline)
        known = self.cache.get(key)
        if known is None:
            try:
                known = self._loss(pipeline, streams)
            except ArchcError as error:
                return Measured(math.nan, str(error))
            if not math.isfinite(known):
                return Measured(known, f"the {self.metric} is no finite number: {known}")
            self.cache.put(key, known)
        return Measured(known)

    def _loss(self, pipeline: Pipeline, streams: Streams) -> float:
        import torch

        by, parent = METRICS[self.metric], self._subject
        made = self.parent.made(pipeline)
        above = below = 0.0
        with torch.no_grad():
            for batch, there, end in zip(self.batches, streams, self._ends, strict=True):
                full = results(parent, batch, known=dict(end))
                more = by.terms(full, results(made, batch, known=dict(there)), batch)
                above, below = above + more[0], below + more[1]
        return by.value(above, below)
