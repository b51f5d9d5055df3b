"""Norms over the last axis, computed in fp32 (fp64 for fp64) and returned in the input's dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive
from archc.kernels.reference.linear import widen


@primitive
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """weight * x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019)."""
    return F.rms_norm(widen(x), weight.shape, widen(weight), eps).to(x.dtype)


@primitive
def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """weight * (x - mean) / sqrt(var + eps) + bias (Ba et al. 2016)."""
    return F.layer_norm(widen(x), weight.shape, widen(weight), widen(bias), eps).to(x.dtype)


@primitive
def layer_norm_1p(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Layer norm whose gain is stored minus one."""
    return F.layer_norm(widen(x), weight.shape, 1 + widen(weight), widen(bias), eps).to(x.dtype)


@primitive
def gated_rms_norm(y: torch.Tensor, z: torch.Tensor, weight: torch.Tensor, eps: float, groups: int) -> torch.Tensor:
    """weight * rms_norm(y * silu(z)) with a norm over each of `groups` equal parts (Dao & Gu 2024, section 7)."""
    gated = widen(y) * F.silu(widen(z))
    parts = torch.unflatten(gated, -1, (groups, -1))  # [B, L, groups, C / groups]
    normed = F.rms_norm(parts, parts.shape[-1:], None, eps).flatten(-2)
    return (normed * widen(weight)).to(y.dtype)
