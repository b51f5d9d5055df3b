"""merge-groups: the B/C groups of Mamba-2 averaged, their heads kept."""

from __future__ import annotations

from typing import Any

from archc.ir.op import Op
from archc.ir.ops.mamba2 import Mamba2
from archc.passes.base import register_pass
from archc.passes.merging import MergePass, remake


@register_pass("merge-groups")
class MergeGroups(MergePass):
    """Average B and C of Mamba-2's groups; all heads stay, several groups' to one.

    What Ainslie et al. 2023 (section 2.1) do to keys and values, done to B and C: rows of in_proj and those of the
    convolution. The gated norm keeps its parts. Approximate, and exact where the merged B and C are equal.
    """

    kind = Mamba2
    role = "n_groups"
    nested = frozenset({"heads_per_group"})
    averaged = frozenset({"d_state"})
    Examples = ({"to": 1}, {"groups": ((1, 0),), "layers": (0, 2)})

    def remade(self, op: Any, units: int) -> Op:
        """The op with so many groups, as many heads and as many parts of its norm as it had."""
        return remake(op, n_groups=units, norm_groups=op.norm_groups)
