"""What one layer carries from call to call."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch


@dataclass
class LayerState:
    """The state of one layer: tensors that primitives read and change in place.

    `conv` [B, C, K - 1] the last inputs of the convolution, `ssm` [B, H, P, N], `k` and `v` [B, capacity, G, P]; a
    layer has those its op declares, the others are None. `length` counts the tokens consumed before the call: the
    model advances it after all layers.
    """

    conv: Any = None
    ssm: Any = None
    k: Any = None
    v: Any = None
    length: int = 0

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in named if isinstance(value, torch.Tensor)}

    def clone(self) -> LayerState:
        """A copy that shares no memory."""
        copies: dict[str, Any] = {name: value.clone() for name, value in self.tensors().items()}
        return replace(self, **copies)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(value.nbytes for value in self.tensors().values())


torch.export.register_dataclass(LayerState)
