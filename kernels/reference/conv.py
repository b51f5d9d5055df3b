"""The short causal convolution in front of the SSD scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive
from archc.kernels.reference.segments import segment_runs

if TYPE_CHECKING:
    from archc.kernels.reference.state import LayerState


@primitive
def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """Depthwise causal convolution of x [B, L, C] with weight [C, K]: position t sees t-K+1..t of its document.

    `state.conv` [B, C, K - 1] holds the inputs before x.
    """
    if state is None:
        before = x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[2])
    else:
        before = state.conv.transpose(1, 2).to(x.dtype)  # [B, K - 1, C]
    padded = torch.cat([before, x], dim=1)  # [B, K - 1 + L, C]
    if state is not None:
        state.conv.copy_(padded[:, x.shape[1] :].detach().transpose(1, 2))
    if segments is not None:
        return segmented_conv(padded, weight, bias, segments)
    # As a convolution of images of height 1, whose channels may come last without a copy.
    image = padded.transpose(1, 2).unsqueeze(2)  # [B, C, 1, K - 1 + L]
    y = F.conv2d(image, weight[:, None, None, :], bias, groups=weight.shape[0])
    return y.squeeze(2).transpose(1, 2)  # [B, L, C]


@primitive
def segmented_conv(
    padded: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, segments: torch.Tensor
) -> torch.Tensor:
    """The convolution tap by tap, each masked where it would reach into another document."""
    taps, tokens = weight.shape[1], segments.shape[1]
    runs = segment_runs(segments)
    # What lies before the first token (zeros, or the state) belongs to the first document.
    runs = torch.cat([runs.new_zeros(runs.shape[0], taps - 1), runs], dim=1)
    y = padded[:, taps - 1 :] * weight[:, -1]  # [B, L, C]
    for back in range(1, taps):
        start = taps - 1 - back
        same = runs[:, start : start + tokens] == runs[:, taps - 1 :]  # [B, L]
        earlier = padded[:, start : start + tokens].masked_fill(~same[..., None], 0)
        y = y + earlier * weight[:, -1 - back]
    return y if bias is None else y + bias
