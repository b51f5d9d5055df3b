"""taylor: what removing a unit would do to the loss, to first order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archc.ir.execute import execute
from archc.kernels.errors import PassError
from archc.passes.importance.base import Batch, Estimator, Measurement, Subject, estimator
from archc.passes.importance.targets import next_token_loss
from archc.passes.importance.units import owned
from archc.passes.scores import Values


@estimator("taylor")
class Taylor(Estimator):
    """|sum of weight x gradient| over everything that a unit owns, of the mean next-token loss (Molchanov et al. 2019).

    Gradients are summed over all batches: as much memory as the weights.
    """

    def start(self, subject: Subject) -> Measurement:
        _ = subject.head
        return _Taylor(subject)


class _Taylor(Measurement):
    def __init__(self, subject: Subject) -> None:
        self.graph = subject.graph
        self.weights = {key: w.detach().requires_grad_(w.is_floating_point()) for key, w in subject.weights.items()}
        self.predicted = 0

    def batch(self, batch: Batch) -> None:
        import torch

        with torch.enable_grad():
            logits = execute(self.graph, self.weights, batch.inputs, outputs=("logits",))["logits"]
            loss, count = next_token_loss(logits, batch)
            self.predicted += count
            if count:
                torch.autograd.backward(loss)

    def units(self) -> Mapping[str, Values]:
        if not self.predicted:
            raise PassError("taylor: no token of the batches has a next one to predict")
        products = {key: w.detach().double() * w.grad for key, w in self.weights.items() if w.grad is not None}
        return {name: np.abs(total) / self.predicted for name, total in owned(self.graph, products).items()}
