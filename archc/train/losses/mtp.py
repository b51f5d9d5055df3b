"""Multi-token prediction as an auxiliary loss."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Doc

from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, Value, loss
from archc.train.losses.chunked import shifted
from archc.train.losses.next_token import shifted_entropy
from archc.train.losses.step import Step


@loss("mtp")
class MTP(Loss):
    """Cross entropy of the token k + 1 ahead under MTP step k, averaged over all predictions of all steps.

    DeepSeek-V3 (2024, section 2.2); Nemotron 3 Super weighs it 0.3. Predictions past the end or across a change of
    document do not count.
    """

    weight: Annotated[float, Doc("factor in the sum that is minimised")] = 0.3

    def needs(self, setting: Setting) -> Needs:
        if not setting.student.mtp_steps:
            raise ArchcError(f"`mtp` trains multi-token prediction, which {setting.student.name} does not have")
        return Needs()

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return torch.stack([shifted(batch, k + 1)[1].sum() for k in _steps(setting)]).sum()

    def __call__(self, step: Step) -> Value:
        width = step.setting.student.dims["vocab"].size
        told = {}
        for k, h in enumerate(step.mtp, start=1):
            total = shifted_entropy(step.model, h, step.batch, ahead=k + 1, width=width)
            told[f"step_{k}"] = Value(total, shifted(step.batch, k + 1)[1].sum())
        total = torch.stack([one.total for one in told.values()]).sum()
        return Value(total, self.count(step.batch, step.setting), told)


def _steps(setting: Setting) -> range:
    return range(1, setting.student.mtp_steps + 1)
