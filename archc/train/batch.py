"""What one step trains on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B samples of L tokens. A loss weighs its term of predicting a token by that token's weight, and never predicts
    across a change of segment."""

    tokens: Tensor  # int64 [B, L]
    segments: Tensor | None  # int32 [B, L]: which packed document a token is of; None when nothing is packed
    weights: Tensor | None  # float32 [B, L]: weight of the loss of predicting this token; None: all 1
    index: Tensor  # int64 [B]: numbers of the samples in their stream, the key of cached teachers

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)

    def rows(self, start: int, stop: int) -> Batch:
        """Samples `start` to `stop` of the batch: a micro-batch."""
        cut = {name: value[start:stop] for name, value in vars(self).items() if value is not None}
        return replace(self, **cut)
