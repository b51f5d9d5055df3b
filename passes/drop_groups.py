"""drop-groups: groups of Mamba-2 go, with their B and C, their heads and their state."""

from __future__ import annotations

from archc.passes.base import register_pass
from archc.passes.dropping import DropPass


@register_pass("drop-groups")
class DropGroups(DropPass):
    """B/C groups of Mamba-2 layers, by number or by importance, leave with the heads that read them."""

    role = "n_groups"
    Examples = ({"units": (0,)}, {"count": 1, "by": "random"})
