"""Distillation from a teacher's hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from typing_extensions import Doc

from archc.ir.graph import Graph
from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, TeacherNeeds, Value, loss
from archc.train.losses.chunked import wide
from archc.train.losses.kept import STREAM, Paired, check_modules, kept, layer_pairs, live
from archc.train.losses.measures import MEASURES, Measure
from archc.train.losses.step import Step


@loss("hidden_kd")
class HiddenKD(Loss):
    """Distance between hidden states of the student and those of a teacher, the mean over pairs of layers and tokens.

    Where the student was cut from the teacher, the weight map tells which units it kept, and those are matched
    directly. Else a linear map from the student's width to the teacher's is learned for each pair (Minitron,
    Muralidharan et al. 2024), which belongs to the loss and is not exported. Layers are paired by what was kept, or by
    `taps`.
    """

    teacher: Annotated[str, Doc("whose hidden states; none: those of the only teacher")] = ""
    measure: Annotated[Measure, Doc("how far two vectors lie apart")] = "mse"
    taps: Annotated[Mapping[str, str], Doc("module of the teacher by module of the student")] = field(
        default_factory=dict
    )

    def needs(self, setting: Setting) -> Needs:
        name, teacher = setting.teacher(self.teacher)
        pairs = layer_pairs(setting, teacher, self.taps, option="taps")
        check_modules(setting.student, pairs)
        check_modules(live(teacher), pairs.values())
        return Needs(frozenset(pairs), {name: TeacherNeeds(taps=frozenset(pairs.values()))})

    def module(self, setting: Setting) -> nn.Module:
        _, teacher = setting.teacher(self.teacher)
        pairs = layer_pairs(setting, teacher, self.taps, option="taps")
        units = kept(setting.student, teacher).stream
        return Adapted(pairs, setting.student, live(teacher)) if units is None else Direct(pairs, units)

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return torch.tensor(batch.tokens.numel(), device=batch.tokens.device)

    def __call__(self, step: Step) -> Value:
        distance, taught = MEASURES[self.measure], step.taught(self.teacher)
        count = self.count(step.batch, step.setting)
        told = {}
        for i, (ours, theirs) in enumerate(step.own.pairs.items()):
            student, teacher = step.own(i, step.tap(ours), taught.taps[theirs].to(step.h.device))
            told[ours] = Value(distance(wide(student), wide(teacher)).sum(), count)
        return Value(torch.stack([one.total for one in told.values()]).mean(), count, told)


class Direct(Paired):
    """Matches the student's units with those of the teacher that they were taken from."""

    units: Tensor

    def __init__(self, pairs: Mapping[str, str], units: Sequence[int]) -> None:
        super().__init__(pairs)
        self.register_buffer("units", torch.tensor(units), persistent=False)

    def forward(self, pair: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared, for hidden states `[B, L, D]` of each side."""
        return student, teacher[..., self.units]


class Adapted(Paired):
    """Matches a learned image of the student's units, a linear map for each pair, with the teacher's."""

    def __init__(self, pairs: Mapping[str, str], student: Graph, teacher: Graph) -> None:
        super().__init__(pairs)
        widths = student.dims[STREAM].size, teacher.dims[STREAM].size
        self.adapters = nn.ModuleList(nn.Linear(*widths, bias=False) for _ in pairs)

    def forward(self, pair: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared, for hidden states `[B, L, D]` of each side."""
        adapter: Any = self.adapters[pair]
        return adapter(student.to(adapter.weight.dtype)), teacher
