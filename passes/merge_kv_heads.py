"""merge-kv-heads: key and value heads averaged, their queries kept."""

from __future__ import annotations

from typing import Any

from archc.ir.op import Op
from archc.ir.ops.attention import Attention
from archc.passes.base import register_pass
from archc.passes.merging import MergePass, remake


@register_pass("merge-kv-heads")
class MergeKVHeads(MergePass):
    """Average key and value heads; all query heads stay, several KV heads' to one (Ainslie et al. 2023, section 2.1).

    8 KV heads of 4 queries each become, with `to=4`, 4 of 8. Approximate, and exact where the merged heads are equal.
    """

    kind = Attention
    role = "n_kv_heads"
    nested = frozenset({"queries_per_kv"})
    Examples = ({"to": 1}, {"groups": ((1, 0),), "layers": (3,)}, {"to": 2})

    def remade(self, op: Any, units: int) -> Op:
        """The op with so many KV heads and as many query heads as it had."""
        return remake(op, n_kv_heads=units)
