"""The losses of a recipe as one: what they need together, what they own, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, Value
from archc.train.losses.step import Pass, Step, TrainedModel


@dataclass(frozen=True)
class Values:
    """What each loss said of a batch, by label."""

    by_label: Mapping[str, Value]
    weights: Mapping[str, float]

    def objective(self, counts: Tensor) -> Tensor:
        """The weighted sum of the means, over `counts` `[losses]` of everything that one optimiser step sees."""
        counts = counts.masked_fill(counts == 0, 1.0)  # of nothing the sum is zero, and so is the mean
        sums = [self.weights[label] * value.total / counts[i] for i, (label, value) in enumerate(self.by_label.items())]
        return torch.stack(sums).sum()

    def told(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums and counts for the log: each loss under its label, what it tells as `label/figure`."""
        found = {}
        for label, value in self.by_label.items():
            found[label] = (value.total.detach(), value.count)
            found |= {f"{label}/{name}": (more.total.detach(), more.count) for name, more in value.told.items()}
        return found


class Losses:
    """The losses of a run on one setting.

    `modules` is what they own, to be trained and checkpointed with the student. Raises ArchcError for a loss that does
    not fit what is trained.

        counts = sum(losses.counts(b) for b in batches)     # and over ranks
        for b in batches:
            losses(model, b).objective(counts).backward()
    """

    def __init__(self, losses: Sequence[Loss], setting: Setting) -> None:
        self.setting = setting
        self.by_label = dict(zip(labels(losses), losses, strict=True))
        self.needs = Needs()
        for one in losses:
            self.needs |= one.needs(setting)
        for name, wanted in self.needs.teachers.items():
            setting.teachers[name].check(wanted)
        made = {label: one.module(setting) for label, one in self.by_label.items()}
        self.modules = nn.ModuleDict({label: module for label, module in made.items() if module is not None})

    def counts(self, batch: Batch) -> Tensor:
        """What each loss's sum over a batch is divided by: float64 `[losses]`."""
        return torch.stack([one.count(batch, self.setting).double() for one in self.by_label.values()])

    def __call__(self, model: TrainedModel, batch: Batch) -> Values:
        """Every loss on a batch, with gradients."""
        run = Pass(model, batch, self.setting, self.needs)
        owned = dict(self.modules.items())
        values = {label: one(Step(run, owned.get(label))) for label, one in self.by_label.items()}
        return Values(values, {label: one.weight for label, one in self.by_label.items()})


def labels(losses: Sequence[Loss]) -> list[str]:
    """A name for each of several losses: its own, numbered from the second of a kind on.

    A point could not stand in it: modules are named by it."""
    seen: dict[str, int] = {}
    found = []
    for one in losses:
        seen[one.name] = seen.get(one.name, 0) + 1
        found.append(one.name if seen[one.name] == 1 else f"{one.name}_{seen[one.name]}")
    return found
