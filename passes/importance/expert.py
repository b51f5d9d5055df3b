"""expert: how much experts add, or how often they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from archc.ir.dims import Dim
from archc.ir.graph import Node
from archc.passes.importance.base import Batch, Estimator, Measurement, Subject, estimator
from archc.passes.scores import Values

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.execute import Reading


@estimator("expert")
class Expert(Estimator):
    """Mean over tokens of gate weight x norm of the expert's output, 0 where it is not chosen (ModelOpt's score).

    An expert's output is what it hands to the sum of experts: in a latent space, where they work in one. With
    `by: choice` it is how often it is chosen, a token.
    """

    by: Literal["output", "choice"] = "output"

    def start(self, subject: Subject) -> Measurement:
        return _Expert(self)


class _Expert(Measurement):
    watches = True

    def __init__(self, options: Expert) -> None:
        self.options = options
        self.sums: dict[str, Tensor] = {}
        self.tokens = 0

    def read(self, reading: Reading, batch: Batch) -> None:
        dim = _experts(reading.node)
        if dim is None or reading.at is None or reading.name != reading.node.op.scored.get(reading.node.op.spreads):
            return
        import torch

        chosen = reading.at.flatten()
        if self.options.by == "output":
            amounts = torch.linalg.vector_norm(reading.read().detach().double(), dim=-1).flatten()
        else:
            amounts = torch.ones(chosen.shape, dtype=torch.float64)
        total = self.sums.setdefault(dim.name, torch.zeros(dim.size, dtype=torch.float64))
        total.index_add_(0, chosen, amounts)

    def batch(self, batch: Batch) -> None:
        self.tokens += batch.tokens.numel()

    def units(self) -> Mapping[str, Values]:
        return {name: (total / self.tokens).numpy()[None] for name, total in self.sums.items()}


def _experts(node: Node) -> Dim | None:
    """The dim whose units a token chooses among."""
    return node.op.dims.get(node.op.spreads)
