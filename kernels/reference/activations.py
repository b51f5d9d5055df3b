"""Activations and gated units."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive


@primitive
def relu2(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0)^2 (So et al. 2021, Primer)."""
    return F.relu(x).square()


@primitive
def silu(x: torch.Tensor) -> torch.Tensor:
    """x * sigmoid(x)."""
    return F.silu(x)


@primitive
def gelu(x: torch.Tensor) -> torch.Tensor:
    """x * Phi(x), with the error function."""
    return F.gelu(x)


@primitive
def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """x * Phi(x), in the tanh approximation (Hendrycks & Gimpel 2016)."""
    return F.gelu(x, approximate="tanh")


@primitive
def clamped_swiglu(gate: torch.Tensor, up: torch.Tensor, alpha: float, limit: float) -> torch.Tensor:
    """(up + 1) * gate * sigmoid(alpha * gate), gate clamped above and up on both sides by `limit` (gpt-oss)."""
    gate = gate.clamp(max=limit)
    up = up.clamp(-limit, limit)
    return (up + 1) * (gate * torch.sigmoid(alpha * gate))
