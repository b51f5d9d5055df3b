"""What losses see of one batch: each thing is computed when the first loss asks for it, and once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from archc.train.batch import Batch
from archc.train.losses.base import Needs, Setting
from archc.train.teachers import TeacherOutputs

MTP = "mtp."


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
    """One batch through the student and the teachers; what no loss asks for is not computed.

    Taps of modules below `mtp.` are those of all steps, one after the other along their first axis.
    """

    def __init__(self, model: TrainedModel, batch: Batch, setting: Setting, needs: Needs) -> None:
        self.model, self.batch, self.setting, self.needs = model, batch, setting, needs
        self._taught: dict[str, TeacherOutputs] = {}

    @functools.cached_property
    def _forward(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        taps = sorted(t for t in self.needs.taps if not t.startswith(MTP))
        found = self.model.hidden(self.batch.tokens, self.batch.segments, taps)
        return found if taps else (found, {})

    @functools.cached_property
    def _ahead(self) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
        taps = [t for t in self.needs.taps if t.startswith(MTP)]
        with _listening(self.model, taps) as heard:
            hidden = self.model.mtp(self.h, self.batch.tokens, self.batch.segments)
        return hidden, {tap: torch.cat(values) for tap, values in heard.items()}

    @property
    def h(self) -> Tensor:
        """Final hidden states `[B, L, D]`."""
        return self._forward[0]

    @property
    def mtp(self) -> Sequence[Tensor]:
        """Hidden states of each MTP step, `[B, L, D]`."""
        return self._ahead[0]

    def tap(self, path: str) -> Tensor:
        """What the student's module at `path` returned."""
        return (self._ahead if path.startswith(MTP) else self._forward)[1][path]

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
        return self.run.tap(path)

    def taught(self, teacher: str = "") -> TeacherOutputs:
        """What a teacher says of the batch."""
        return self.run.taught(teacher)


@contextmanager
def _listening(model: TrainedModel, paths: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What modules return while the block runs, every time they are called."""
    heard: dict[str, list[Tensor]] = {path: [] for path in paths}

    def hearing(into: list[Tensor]) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, args, output: into.append(output)

    handles = [model.get_submodule(path).register_forward_hook(hearing(heard[path])) for path in paths]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
