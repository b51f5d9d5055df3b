"""Rotary position embedding (Su et al. 2021) in the half-split convention of Hugging Face."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from archc.kernels.primitive import primitive
from archc.kernels.reference.linear import widen
from archc.kernels.reference.segments import segment_positions

if TYPE_CHECKING:
    from archc.kernels.reference.state import LayerState


@primitive(results=("inv_freq", "scale"))
def rotary_frequencies(
    head_dim: int,
    theta: float = 10000.0,
    *,
    partial: float = 1.0,
    scaling: dict[str, str | float] | None = None,
    frequencies: tuple[float, ...] | None = None,
) -> tuple[torch.Tensor, float]:
    """Angle per token of each rotated pair [rotated / 2], fp32, and the factor that cos and sin are scaled by.

    The first `partial` of the channels is rotated. `scaling` has a `kind`, "llama3" or "yarn", and its numbers;
    `frequencies` replace the computed ones. Equal to transformers' `modeling_rope_utils` bit for bit.
    """
    rotated = int(head_dim * partial)
    periods = theta ** (torch.arange(0, rotated, 2, dtype=torch.float32) / rotated)  # tokens per radian
    if frequencies is not None:
        inv_freq = torch.tensor(frequencies, dtype=torch.float32)
    elif scaling is None:
        inv_freq = 1.0 / periods
    elif scaling["kind"] == "llama3":
        inv_freq = llama3_frequencies(1.0 / periods, scaling)
    else:
        inv_freq = yarn_frequencies(periods, theta, scaling)
    if scaling is None or scaling["kind"] != "yarn":
        return inv_freq, 1.0
    return inv_freq, yarn_factor(scaling)


@primitive
def llama3_frequencies(inv_freq: torch.Tensor, scaling: dict[str, str | float]) -> torch.Tensor:
    """Llama 3.1's rule: long wavelengths stretched by `factor`, short ones kept, a smooth passage between."""
    factor, context = float(scaling["factor"]), float(scaling["original_context"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    wavelength = 2 * torch.pi / inv_freq
    stretched = torch.where(wavelength > context / low, inv_freq / factor, inv_freq)
    smooth = (context / wavelength - low) / (high - low)
    between = (1 - smooth) * stretched / factor + smooth * stretched
    medium = (wavelength >= context / high) & (wavelength <= context / low)
    return torch.where(medium, between, stretched)


@primitive
def yarn_frequencies(periods: torch.Tensor, theta: float, scaling: dict[str, str | float]) -> torch.Tensor:
    """YaRN (Peng et al. 2023, section 3.2): pairs that turn less than `beta_slow` times over the original context
    are stretched by `factor`, those that turn more than `beta_fast` times are kept, a linear ramp between."""
    context, rotated = float(scaling["original_context"]), 2 * len(periods)
    turns = float(scaling.get("beta_fast", 32)), float(scaling.get("beta_slow", 1))
    low, high = (rotated * math.log(context / (n * 2 * math.pi)) / (2 * math.log(theta)) for n in turns)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    if low == high:
        high += 0.001  # a ramp needs some width
    kept = 1 - ((torch.arange(len(periods), dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return 1.0 / (float(scaling["factor"]) * periods) * (1 - kept) + 1.0 / periods * kept


@primitive
def yarn_factor(scaling: dict[str, str | float]) -> float:
    """Factor on cos and sin (YaRN, equation 22): `attention_factor`, or 0.1 ln(factor) + 1."""
    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    return 0.1 * math.log(max(float(scaling["factor"]), 1.0)) + 1.0


@primitive(results=("q", "k"))
def rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    inv_freq: torch.Tensor,
    scale: float,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate the first 2 * len(inv_freq) channels of q [B, L, H, P] and k [B, L, G, P] by their positions.

    Positions restart with each document, or go on from `state.length`; ValueError for both at once.
    """
    if segments is not None and state is not None:
        raise ValueError("rotary takes segments or a state, not both")
    if segments is not None:
        positions = segment_positions(segments)  # [B, L]
    else:
        start = 0 if state is None else state.length
        positions = torch.arange(start, start + q.shape[1], device=q.device)[None]  # [1, L]
    wide = widen(q).dtype
    angles = positions.to(wide)[..., None] * inv_freq.to(wide)  # [B, L, pairs]
    cos, sin = (scale * angles.cos())[:, :, None], (scale * angles.sin())[:, :, None]  # [B, L, 1, pairs]
    return rotate(q, cos, sin), rotate(k, cos, sin)


@primitive
def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate channel i of x [B, L, H, P] with channel i + pairs, for cos and sin [B, L, 1, pairs]."""
    pairs = cos.shape[-1]
    first, second, rest = torch.split(x, [pairs, pairs, x.shape[-1] - 2 * pairs], dim=-1)
    turned = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat([*(part.to(x.dtype) for part in turned), rest], dim=-1)
