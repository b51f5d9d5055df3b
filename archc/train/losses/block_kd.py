"""Block-wise local distillation: blocks learn what the parent's do, each by itself, on the parent's own input."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Doc

from archc.ir.graph import LAYERS
from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, TeacherNeeds, Value, loss
from archc.train.losses.chunked import wide
from archc.train.losses.kept import STREAM, Paired, check_modules, layer_pairs, live
from archc.train.losses.measures import MEASURES, Measure
from archc.train.losses.step import Step


@loss("block_kd")
class BlockKD(Loss):
    """Distance between what a block of the student adds to the residual stream and what the parent's block adds.

    Both are given the parent's input, so that one pass of the parent trains every block at once and apart from the
    others; a block may be narrower or of another kind, the residual stream is of one width (Puzzle, Bercovich et al.
    2024, section 3). The mean over blocks and tokens. Blocks are paired by lineage, or by `blocks`.
    """

    teacher: Annotated[str, Doc("the parent; none: the only teacher")] = ""
    measure: Annotated[Measure, Doc("how far two vectors lie apart")] = "relative_mse"
    blocks: Annotated[Mapping[str, str], Doc("block of the parent by block of the student, such as layers.1")] = field(
        default_factory=dict
    )

    def needs(self, setting: Setting) -> Needs:
        name, teacher = setting.teacher(self.teacher)
        _check_widths(setting, name)
        pairs = layer_pairs(setting, teacher, self.blocks, option="blocks")
        _check_blocks(pairs)
        check_modules(setting.student, pairs)
        check_modules(live(teacher), pairs.values())
        taps = frozenset(path for theirs in pairs.values() for path in (theirs, _before(theirs)))
        return Needs(teachers={name: TeacherNeeds(taps=taps)})

    def module(self, setting: Setting) -> Paired:
        _, teacher = setting.teacher(self.teacher)
        return Paired(layer_pairs(setting, teacher, self.blocks, option="blocks"))

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return torch.tensor(batch.tokens.numel(), device=batch.tokens.device)

    def __call__(self, step: Step) -> Value:
        taught, count = step.taught(self.teacher).taps, self.count(step.batch, step.setting)
        told = {}
        for ours, theirs in step.own.pairs.items():
            total = self._distance(step, ours, taught[_before(theirs)], taught[theirs])
            told[ours] = Value(total, count)
        return Value(torch.stack([one.total for one in told.values()]).mean(), count, told)

    def _distance(self, step: Step, path: str, before: Tensor, after: Tensor) -> Tensor:
        """Summed over positions, for the parent's stream `[B, L, D]` before and after its block."""
        block = step.model.get_submodule(path)
        like = next(block.parameters())
        before, after = before.to(like), after.to(like)
        # A block in which no token sees another takes no segments.
        takes = "segments" in inspect.signature(block.forward).parameters
        made = block(before, segments=step.batch.segments) if takes else block(before)
        return MEASURES[self.measure](wide(made - before), wide(after - before)).sum()


def _before(path: str) -> str:
    """The module whose output a block reads."""
    position = int(path.rpartition(".")[2])
    return f"{LAYERS}.{position - 1}" if position else "embedding"


def _check_widths(setting: Setting, name: str) -> None:
    own, parent = setting.student.dims[STREAM].size, live(setting.teachers[name]).dims[STREAM].size
    if own != parent:
        raise ArchcError(
            f"`block_kd` gives blocks the parent's input: {setting.student.name} has d_model {own}, `{name}` {parent}"
        )


def _check_blocks(pairs: Mapping[str, str]) -> None:
    for path in (*pairs, *pairs.values()):
        region, _, position = path.partition(".")
        if region != LAYERS or not position.isdigit():
            raise ArchcError(f"`blocks` names blocks such as {LAYERS}.1: got `{path}`")
