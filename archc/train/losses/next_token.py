"""Next-token prediction."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from archc.train.batch import Batch
from archc.train.losses.base import Loss, Setting, Value, loss
from archc.train.losses.chunked import chunked_sums, flat, shifted, wide
from archc.train.losses.step import Step, TrainedModel


@loss("next_token")
class NextToken(Loss):
    """Cross entropy of every token given those before it, in nats; a token's own weight scales its term."""

    def count(self, batch: Batch, setting: Setting) -> Tensor:
        return shifted(batch, 1)[1].sum()

    def __call__(self, step: Step) -> Value:
        width = step.setting.student.dims["vocab"].size
        total = shifted_entropy(step.model, step.h, step.batch, ahead=1, width=width)
        return Value(total, self.count(step.batch, step.setting))


def shifted_entropy(model: TrainedModel, h: Tensor, batch: Batch, *, ahead: int, width: int) -> Tensor:
    """Summed cross entropy of the tokens `ahead` of hidden states `[B, L, D]`; `width` is the vocabulary."""
    targets, weights = shifted(batch, ahead)

    def summed(rows: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor]:
        terms = cross_entropy(wide(model.logits(rows)), wanted, reduction="none")
        return ((terms * weight).sum(),)

    (total,) = chunked_sums(summed, flat(h, targets.shape[1]), targets.flatten(), weights.flatten(), width=width)
    return total
