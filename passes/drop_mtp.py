"""drop-mtp: fewer steps of multi-token prediction, or none."""

from __future__ import annotations

import dataclasses

from archc.ir.graph import Graph
from archc.ir.slicing import carried
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.live import without_dead


@register_pass("drop-mtp")
class DropMTP(Pass):
    """Leave the first `steps` steps of multi-token prediction; with 0 the whole region and its weights go.

    Later steps use the parameters of the first (DeepSeek-V3 2024; Nemotron 3), so that fewer steps cost less and weigh
    the same. Everything else computes what it did. Raises PassError where there are fewer than `steps`.
    """

    steps: int = 0

    Examples = ({}, {"steps": 1})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph without those outputs, and what only they needed."""
        had = graph.mtp_steps
        if not 0 <= self.steps <= had:
            raise self.error(f"`{graph.name}` has {had} steps of multi-token prediction: got {self.steps}")
        gone = {f"mtp.{step}" for step in range(self.steps + 1, had + 1)}
        left = dataclasses.replace(graph, outputs=tuple(o for o in graph.outputs if o[0] not in gone))
        live = without_dead(left).by_id
        nodes = tuple(n for n in graph.nodes if n.id in live or not graph.in_mtp(n))
        made = dataclasses.replace(left, nodes=nodes)
        return made, carried(graph, made)
