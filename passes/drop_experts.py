"""drop-experts: experts go, with their router rows, biases and hidden units."""

from __future__ import annotations

from archc.passes.base import register_pass
from archc.passes.dropping import DropPass


@register_pass("drop-experts")
class DropExperts(DropPass):
    """Experts of MoE layers, by number or by importance (`by`, such as `expert`), leave; the router chooses among those
    that are left."""

    role = "experts"
    Examples = ({"units": (1, 3)}, {"count": 2, "by": "random"})
