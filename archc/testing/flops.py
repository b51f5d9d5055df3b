"""An independent count of FLOPs: torch's FlopCounterMode, with formulas for what it counts as 0 on a CPU."""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten


def sdpa(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Query-key pairs that the mask lets through, 2 products of head_dim each.

    `is_causal` counts the lower triangle; an explicit mask is counted as dense by the caller's tests.
    """
    batch, heads, length, width = query
    keys = key[-2]
    causal = bool(kwargs.get("is_causal", args[2] if len(args) > 2 else False))
    pairs = length * (length + 1) // 2 + length * (keys - length) if causal else length * keys
    return int(batch * heads * pairs * width * 4)


FORMULAS: dict[Any, Any] = {
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa,
}
