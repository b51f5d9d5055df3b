"""How far vectors lie from those of a teacher: one number a position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from torch import Tensor
from torch.nn.functional import cosine_similarity

Measure = Literal["mse", "relative_mse", "cosine"]

SMALLEST = 1e-12


def mse(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared difference over the units of `[..., D]`."""
    return (ours - theirs).square().mean(-1)


def relative_mse(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared difference over the teacher's own square: 0 when equal, 1 for a student that says nothing."""
    return (ours - theirs).square().sum(-1) / theirs.square().sum(-1).clamp(min=SMALLEST)


def cosine(ours: Tensor, theirs: Tensor) -> Tensor:
    """1 less the cosine between the two."""
    return 1.0 - cosine_similarity(ours, theirs, dim=-1, eps=SMALLEST)


MEASURES: Mapping[Measure, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"mse": mse, "relative_mse": relative_mse, "cosine": cosine}
)
