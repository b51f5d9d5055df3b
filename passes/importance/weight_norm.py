"""weight_norm: how large the weights are that belong to a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from archc.passes.importance.base import Estimator, Measurement, Subject, estimator
from archc.passes.importance.units import owned
from archc.passes.scores import Values

if TYPE_CHECKING:
    from torch import Tensor


@estimator("weight_norm")
class WeightNorm(Estimator):
    """L2 norm of everything that a unit owns, over all parameters on whose axes its dim lies. Needs no data."""

    needs_data = False

    def start(self, subject: Subject) -> Measurement:
        return _WeightNorm(subject)


class _WeightNorm(Measurement):
    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def units(self) -> Mapping[str, Values]:
        found = owned(self.subject.graph, _Squares(self.subject.weights))
        return {name: np.sqrt(total) for name, total in found.items()}


class _Squares(Mapping[str, "Tensor"]):
    """Squares of weights, each made when it is asked for: none stays in memory."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def __getitem__(self, key: str) -> Tensor:
        return self.weights[key].detach().double().square()

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)
