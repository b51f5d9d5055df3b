"""Keeping experts in balance after every optimiser step, and telling how loaded each is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.ir.graph import Graph
from archc.train.moe import ExpertLoad, figures
from archc.train.placement import Placement


class Balance:
    """Moves correction biases by `rate` after a step of a mixture of experts, and tells the loads."""

    def __init__(self, place: Placement, graph: Graph, *, rate: float) -> None:
        self.load, self.group, self.rate = ExpertLoad(place.model, graph), place.data_group, rate

    def after_step(self) -> Mapping[str, Any]:
        """Balance by what this step counted; entropy, overload and shares of each layer's experts."""
        counts = self.load.take(self.group)
        if self.rate:
            self.load.balance(counts, rate=self.rate)
        found: dict[str, Any] = {}
        for scope, told in figures(counts).items():
            found[f"experts/{scope}/entropy"] = told.entropy
            found[f"experts/{scope}/overload"] = told.overload
            found[f"experts/{scope}/load"] = [round(share, 5) for share in told.shares]
        return found

    def discard(self) -> None:
        """Forget what was counted: the step is not taken."""
        self.load.take(self.group)
