"""The auxiliary loss that keeps experts equally loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import Doc

from archc.ir.graph import LAYERS
from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses.base import Loss, Needs, Setting, Value, loss
from archc.train.losses.step import Step
from archc.train.moe import Router, routers


@loss("load_balance")
class LoadBalance(Loss):
    """How unequally experts are chosen: E x sum over experts of (share of choices) x (mean router probability).

    1 where all are chosen alike; the mean over the layers (Fedus et al. 2022, equations 4 to 6; with sigmoid scores
    DeepSeek-V3 2024, equations 17 to 20, over a micro-batch). Gradients flow through the probabilities. Experts of
    multi-token prediction are left to the bias update (`archc.train.moe`). Nemotron 3 weighs it 1e-4.
    """

    weight: Annotated[float, Doc("factor in the sum that is minimised")] = 1e-4

    def needs(self, setting: Setting) -> Needs:
        found = _routers(setting)
        if not found:
            raise ArchcError(f"`load_balance` is for mixtures of experts: {setting.student.name} has none")
        return Needs(frozenset(path for router in found for path in (router.logits, router.choice)))

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return torch.tensor(batch.tokens.numel(), device=batch.tokens.device)

    def __call__(self, step: Step) -> Value:
        found = _routers(step.setting)
        each = [unbalance(r, step.tap(r.logits), step.tap(r.choice)) for r in found]
        count = self.count(step.batch, step.setting)
        return Value(torch.stack(each).mean() * count, count)


def unbalance(router: Router, logits: Tensor, choice: Tensor) -> Tensor:
    """The loss of one router, from its logits `[T, E]` and choices `[T, K]`."""
    share = choice.flatten().bincount(minlength=router.experts).to(logits.dtype) / choice.numel()
    return router.experts * (share * SCORES[router.score](logits).mean(0)).sum()


def _routers(setting: Setting) -> list[Router]:
    return [r for r in routers(setting.student) if r.scope.startswith(f"{LAYERS}.")]


def _sigmoid(logits: Tensor) -> Tensor:
    scores = logits.sigmoid()
    return scores / scores.sum(-1, keepdim=True)


SCORES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"softmax": lambda logits: logits.softmax(-1), "sigmoid": _sigmoid}
)
