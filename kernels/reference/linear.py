"""Products with parameters, look-ups, and small rearrangements."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive


@primitive
def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., in] times weight [out, in], plus bias [out]."""
    return F.linear(x, weight, bias)


@primitive
def embedding(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows of weight [vocab, D] for tokens [B, L]."""
    return F.embedding(tokens, weight)


@primitive
def widen(x: torch.Tensor) -> torch.Tensor:
    """x in fp32, or as it is in fp64: the dtype in which reductions are computed."""
    return x if x.dtype == torch.float64 else x.float()


@primitive
def split(x: torch.Tensor, sizes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Views of the last axis, one per size."""
    return torch.split(x, list(sizes), dim=-1)


@primitive
def concat_last(*parts: torch.Tensor) -> torch.Tensor:
    """The parts side by side on the last axis."""
    return torch.cat(parts, dim=-1)


@primitive
def clamp(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """x held between low and high."""
    return x.clamp(low, high)
