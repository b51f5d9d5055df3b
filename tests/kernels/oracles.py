"""What primitives are compared against: the plainest code that can be right, in Python loops."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def ssd_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence token by token: x [B, L, H, P], dt [B, L, H], A and D [H], B and C [B, L, G, N]."""
    repeats = x.shape[2] // B.shape[2]
    B, C = B.repeat_interleave(repeats, 2), C.repeat_interleave(repeats, 2)  # [B, L, H, N]
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        state = decay * state + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        outputs.append((state * C[:, t, :, None, :]).sum(-1) + D[:, None] * x[:, t])
    return torch.stack(outputs, 1)


def attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """One query and one head at a time: q [B, L, H, P], k and v [B, L, G, P]."""
    scale = q.shape[-1] ** -0.5
    repeats = q.shape[2] // k.shape[2]
    y = torch.zeros_like(q)
    for t in range(q.shape[1]):
        first = 0 if window is None else max(0, t - window + 1)
        last = t + 1 if causal else k.shape[1]
        for h in range(q.shape[2]):
            keys, values = k[:, first:last, h // repeats], v[:, first:last, h // repeats]
            weights = (scale * (keys * q[:, t, None, h]).sum(-1)).exp()  # [B, S]
            total = weights.sum(-1) + (0 if sinks is None else sinks[h].exp())
            y[:, t, h] = ((weights / total[:, None])[..., None] * values).sum(1)
    return y


def in_documents(boundaries: list[int], tokens: int) -> tuple[Tensor, list[slice]]:
    """Segments [1, L] of documents that start at 0 and at each boundary, and their slices."""
    edges = [0, *boundaries, tokens]
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return torch.cat([torch.full((1, s.stop - s.start), i) for i, s in enumerate(slices)], 1), slices
