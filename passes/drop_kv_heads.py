"""drop-kv-heads: KV heads go, with the query heads that read them."""

from __future__ import annotations

from archc.passes.base import register_pass
from archc.passes.dropping import DropPass


@register_pass("drop-kv-heads")
class DropKVHeads(DropPass):
    """KV heads of attention layers, by number or by importance, leave with their query heads.

    `merge-kv-heads` keeps the query heads, and averages."""

    role = "n_kv_heads"
    Examples = ({"units": (1,)}, {"count": 1, "by": "random"})
