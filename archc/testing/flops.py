"""An independent count of FLOPs: torch's FlopCounterMode on the product form of each primitive.

The counter sees only matrix products and convolutions, and takes a masked product for a whole one. So fused attention,
which it counts as 0 on a CPU, gets a formula here that counts the pairs its mask lets through; and primitives that
reach the same pairs by other products (blocks of a window, an explicit softmax for sinks) are replaced by the masked
attention that they equal.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
# The module, whose name in its package is the primitive's.
primitives = importlib.import_module("archc.kernels.reference.attention")


def visible_attention(query: Tensor, key: Tensor, *args: Any, attn_mask: Tensor | None = None, **kwargs: Any) -> int:
    """FLOPs of fused attention: for every visible pair of query [B, H, L, P] and key [B, G, S, P] two products of P.

    `args` of torch's operator are value, dropout, is_causal; its mask is additive, -inf where nothing is seen.
    """
    batch, heads, length, width = query.shape
    keys = key.shape[-2]
    causal = args[2] if len(args) > 2 else kwargs.get("is_causal", False)
    seen = torch.ones(length, keys, dtype=torch.bool) if attn_mask is None else attn_mask > -torch.inf
    seen = seen.tril() if causal else seen
    return int(seen.expand(batch, heads, length, keys).sum()) * 2 * 2 * width


visible_attention._get_raw = True  # type: ignore[attr-defined]  # FlopCounterMode then hands over tensors, not shapes


masked = primitives.attend


def _without_sinks(q: Any, k: Any, v: Any, mask: Any, causal: bool, sinks: Any) -> Tensor:
    """A sink is a logit without a product: leaving it out changes values and no FLOPs."""
    y: Tensor = masked(q, k, v, mask, causal)
    return y


def _masked_window(q: Any, k: Any, v: Any, window: int, sinks: Any, segments: Any) -> Tensor:
    """The pairs within a window, without the padding of blocks."""
    away = primitives.behind(q.shape[1], k.shape[1], q.device)
    y: Tensor = masked(q, k, v, (away >= 0) & (away < window), False)
    return y


@contextlib.contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """A counter that counts every product of the primitives, visible pairs only."""
    forms: dict[str, Any] = {"attend_with_sinks": _without_sinks, "attend_in_blocks": _masked_window}
    formulas = {aten._scaled_dot_product_flash_attention_for_cpu: visible_attention}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with mock.patch.multiple(primitives, **forms), counter:
        yield counter
