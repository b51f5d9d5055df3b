"""merge-experts: routed experts averaged, with their rows of the router."""

from __future__ import annotations

from typing import Any

from archc.ir.op import Op
from archc.ir.ops.moe import MoE
from archc.passes.base import register_pass
from archc.passes.merging import MergePass, remake


@register_pass("merge-experts")
class MergeExperts(MergePass):
    """Average routed experts and their rows of the router, hidden unit by hidden unit (M-SMoE, Li et al. 2024).

    `groups` may be of different sizes. `top_k` is how many experts a token meets then; as many as before when left out.
    Approximate. Exact where the merged experts are equal, `top_k` shrinks as `experts` does, and the weights of the
    chosen are renormalised or come from a softmax: then a token meets one expert where it met all those that it is of.
    """

    top_k: int | None = None

    kind = MoE
    role = "experts"
    averaged = frozenset({"d_ff"})
    Examples = ({"to": 4}, {"to": 2, "top_k": 1, "layers": (1, 4)}, {"groups": ((0, 3, 5), (7, 1), (2, 4, 6))})

    def remade(self, op: Any, units: int) -> Op:
        """The op with so many experts; its groups of experts, if it has any, stay as many."""
        top_k = op.top_k if self.top_k is None else self.top_k
        if not 1 <= top_k <= units:
            raise self.error(f"a token meets `top_k` of {units} experts: got {top_k}; say a smaller `top_k`")
        if units % op.expert_groups:
            raise self.error(
                f"`{op.experts}` has {op.expert_groups} groups of experts, which {units} does not share out"
            )
        return remake(op, experts=units, top_k=top_k)
