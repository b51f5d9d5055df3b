"""What passes share that put another block in the place of one: its op, and the nodes that use its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping

from archc.ir.graph import Graph, Node
from archc.ir.op import Op
from archc.ir.weight_expr import Old, WeightExpr
from archc.ir.weight_formats import check_dtype
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context
from archc.passes.scores import Scores


def replaced(
    graph: Graph, ops: Mapping[str, Op], made: Mapping[str, Mapping[str, WeightExpr]]
) -> tuple[Graph, WeightMap]:
    """The graph with the ops of `ops`, by node id, whose parameters are `made`, by node id and name.

    What those nodes had and `made` does not use is dropped; all other weights are as they were."""
    nodes = tuple(
        dataclasses.replace(n, op=ops[n.owner or n.id], formats=()) if (n.owner or n.id) in ops else n
        for n in graph.nodes
    )
    new = dataclasses.replace(graph, nodes=nodes)
    params: dict[str, WeightExpr] = {}
    for node, param in new.params():
        key = f"{new.scopes[node.id]}.{param.name}"
        params[key] = made[node.id][param.name] if node.id in ops else Old(key)
    used = WeightMap(params).used
    return new, WeightMap(params, frozenset(graph.weight_shapes().keys() - used))


def storage_type(graph: Graph, node: Node, ctx: Context, chosen: str = "") -> str:
    """What the weights in a node's place are stored as: `chosen`, else what most of its own are; fp32 where nothing
    says. Raises UnknownName."""
    if chosen:
        return check_dtype(chosen)
    elements = Counter[str]()
    for param in node.op.params():
        stored = ctx.dtypes.get(f"{graph.scopes[node.id]}.{param.name}")
        if stored is not None:
            elements[stored] += math.prod(param.shape)
    return elements.most_common(1)[0][0] if elements else "fp32"


def scores_without(scores: Scores | None, nodes: Mapping[str, Op] | frozenset[str]) -> Scores | None:
    """Scores without those of the dims of nodes that are others now, and of their blocks."""
    if scores is None:
        return None
    blocks_gone = {node.rpartition(".")[0] for node in nodes}
    units = {
        by: {name: values for name, values in dims.items() if name.rpartition(".")[0] not in nodes}
        for by, dims in scores.units.items()
    }
    blocks = {by: {b: s for b, s in found.items() if b not in blocks_gone} for by, found in scores.blocks.items()}
    return dataclasses.replace(scores, units=units, blocks=blocks)
