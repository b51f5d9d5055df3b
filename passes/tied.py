"""Where a model's embedding and head are, and whether they share their weights: for the passes that change that."""

from __future__ import annotations

import dataclasses

from archc.ir.graph import Graph, Node
from archc.ir.ops.embedding import Embedding
from archc.ir.ops.lm_head import LMHead
from archc.passes.base import Pass


def ends(one: Pass, graph: Graph) -> tuple[Node, Node]:
    """The embedding and the head. Raises PassError where there is not one of each."""
    embeddings = [n for n in graph.nodes if isinstance(n.op, Embedding) and not n.owner]
    heads = [n for n in graph.nodes if isinstance(n.op, LMHead)]
    if len(embeddings) != 1 or len(heads) != 1:
        raise one.error(f"`{graph.name}` has {len(embeddings)} embeddings and {len(heads)} heads, expected one of each")
    return embeddings[0], heads[0]


def with_owner(graph: Graph, node: Node, owner: str, formats: tuple[tuple[str, str], ...]) -> Graph:
    """The graph in which `node` uses the parameters of `owner`, its own where that is empty, stored in `formats`."""
    changed = dataclasses.replace(node, owner=owner, formats=formats)
    return dataclasses.replace(graph, nodes=tuple(changed if n.id == node.id else n for n in graph.nodes))
