"""Packed documents: where a change of segment lies, and shifts that do not cross it."""

from __future__ import annotations

import torch

from archc.kernels.primitive import primitive


@primitive
def segment_runs(segments: torch.Tensor) -> torch.Tensor:
    """Number of the run of equal segments that each position lies in, counted from 0: [B, L] -> [B, L].

    An id that comes back later is another run, so that comparing runs tells documents apart.
    """
    changes = segments != segments.roll(1, 1)
    return (changes & (torch.arange(segments.shape[1], device=segments.device) > 0)).cumsum(dim=1)


@primitive
def segment_positions(segments: torch.Tensor) -> torch.Tensor:
    """Position of each token in its document: [B, L] -> [B, L]."""
    runs = segment_runs(segments)
    first = torch.searchsorted(runs, runs)  # where each run starts: runs do not decrease
    return torch.arange(segments.shape[1], device=segments.device) - first


@primitive
def shift_left(x: torch.Tensor, n: int, segments: torch.Tensor | None = None) -> torch.Tensor:
    """x [B, L, ...] with position t holding x[t + n]; zero past the end and where t + n is in another document."""
    inside = (torch.arange(x.shape[1], device=x.device) < x.shape[1] - n)[None]  # [1, L]
    if segments is not None:
        runs = segment_runs(segments)
        inside = inside & (runs.roll(-n, 1) == runs)  # [B, L]
    inside = inside.view(*inside.shape, *[1] * (x.dim() - 2))  # [B, L, 1, ...]
    return torch.where(inside, x.roll(-n, 1), torch.zeros((), dtype=x.dtype, device=x.device))
