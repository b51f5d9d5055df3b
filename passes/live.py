"""Which nodes of a graph its outputs need."""

from __future__ import annotations

import dataclasses

from archc.ir.graph import Graph


def without_dead(graph: Graph) -> Graph:
    """The graph without nodes that no output needs, neither for their value nor for their parameters."""
    needed = {node_id for _, node_id in graph.outputs}
    while True:
        kept = [n for n in graph.nodes if n.id in needed]
        found = needed.union(*(({*n.inputs, n.owner} if n.owner else set(n.inputs)) for n in kept))
        if found == needed:
            return dataclasses.replace(graph, nodes=tuple(kept))
        needed = found
