"""Runs of a model without one of its blocks, each from where the block would stand: what comes before is shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archc.ir.execute import Watch, execute
from archc.kernels.errors import GraphError, PassError
from archc.passes.importance.base import Batch, Results, Subject

if TYPE_CHECKING:
    from torch import Tensor


def results(
    subject: Subject,
    batch: Batch,
    *,
    known: dict[str, Tensor] | None = None,
    watch: Watch | None = None,
    whole: bool = False,
) -> Results:
    """What a model gives; `known` are outputs of its nodes, `whole` computes its other outputs too."""
    logits, hidden = subject.head
    inputs = {**batch.inputs, **(known or {})}
    outputs = None if whole else ("logits",)
    taps = [name for name in (logits, hidden) if name not in inputs]
    found = execute(subject.graph, subject.weights, inputs, taps, outputs=outputs, watch=watch)
    return Results(found[logits], inputs[hidden] if hidden in inputs else found[hidden])


def removals(subject: Subject, batch: Batch) -> Iterator[tuple[str, Results]]:
    """Every block, and what the model gives without it. In memory is the stream at one place only."""
    known: dict[str, Tensor] = {}
    for block in subject.blocks:
        before, after = subject.span(block)
        if before not in known:
            known = _at(subject, batch, before, known)
        yield block, results(_without(subject, block), batch, known=known)
        known = _at(subject, batch, after, known)


def _at(subject: Subject, batch: Batch, node: str, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """The output of a node, from what is known."""
    inputs = {**batch.inputs, **known}
    return execute(subject.graph, subject.weights, inputs, (node,), outputs=())


def _without(subject: Subject, block: str) -> Subject:
    try:
        return subject.without(block)
    except GraphError as error:
        raise PassError(f"block `{block}` cannot be left out: {error}") from None
