"""What losses see of one batch: each thing is computed when the first loss asks for it, and once."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from archc.train.batch import Batch
from archc.train.losses.base import Needs, Setting
from archc.train.teachers import TeacherOutputs


class TrainedModel(Protocol):
    """The part of an emitted model that losses use (design: the emitted interface)."""

    def hidden(self, tokens: Tensor, segments: Tensor | None = None, taps: Collection[str] = ()) -> Any:
        """Final hidden states `[B, L, D]` of tokens `[B, L]`; with taps, also a dict of what those modules return."""

    def logits(self, h: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden states."""

    def mtp(self, h: Tensor, tokens: Tensor, segments: Tensor | None = None) -> Sequence[Tensor]:
        """One hidden `[B, L, D]` per MTP step; step k at position t predicts token t + k + 1."""

    def get_submodule(self, target: str) -> nn.Module:
        """The module at a path."""


class Pass:
    """One batch through the student and the teachers; what no loss asks for is not computed."""

    def __init__(self, model: TrainedModel, batch: Batch, setting: Setting, needs: Needs) -> None:
        self.model, self.batch, self.setting, self.needs = model, batch, setting, needs
        self._taught: dict[str, TeacherOutputs] = {}

    @functools.cached_property
    def _forward(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        taps = sorted(self.needs.taps)
        found = self.model.hidden(self.batch.tokens, self.batch.segments, taps)
        return found if taps else (found, {})

    @property
    def h(self) -> Tensor:
        """Final hidden states `[B, L, D]`."""
        return self._forward[0]

    @property
    def taps(self) -> Mapping[str, Tensor]:
        """What modules of the student returned, by path."""
        return self._forward[1]

    @functools.cached_property
    def mtp(self) -> Sequence[Tensor]:
        """Hidden states of each MTP step, `[B, L, D]`."""
        return self.model.mtp(self.h, self.batch.tokens, self.batch.segments)

    def taught(self, teacher: str) -> TeacherOutputs:
        """What a teacher says of the batch; an empty name means the only one."""
        name, found = self.setting.teacher(teacher)
        if name not in self._taught:
            self._taught[name] = found.outputs(self.batch, self.needs.teachers[name])
        return self._taught[name]


@dataclass(frozen=True)
class Step:
    """What one loss is called with: the pass that all share, and the module that it owns."""

    run: Pass
    own: Any = None

    @property
    def model(self) -> TrainedModel:
        """The student."""
        return self.run.model

    @property
    def batch(self) -> Batch:
        """The batch."""
        return self.run.batch

    @property
    def setting(self) -> Setting:
        """What is trained."""
        return self.run.setting

    @property
    def h(self) -> Tensor:
        """Final hidden states of the student, `[B, L, D]`."""
        return self.run.h

    @property
    def mtp(self) -> Sequence[Tensor]:
        """Hidden states of each MTP step of the student, `[B, L, D]`."""
        return self.run.mtp

    def tap(self, path: str) -> Tensor:
        """What the student's module at `path` returned; `needs` must have asked for it."""
        return self.run.taps[path]

    def taught(self, teacher: str = "") -> TeacherOutputs:
        """What a teacher says of the batch."""
        return self.run.taught(teacher)
