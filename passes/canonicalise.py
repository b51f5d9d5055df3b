"""canonicalise: the plainest graph of the same function."""

from __future__ import annotations

import dataclasses

from archc.ir.graph import Graph, Node
from archc.ir.ops.norms import LayerNorm
from archc.ir.slicing import carried
from archc.ir.weight_expr import Affine
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.live import without_dead


@register_pass("canonicalise")
class Canonicalise(Pass):
    """Leave out nodes that no output needs, with their parameters, and store zero-centred norm weights plainly.

    The function stays the same: `layer1p` norms (Nemotron-4), whose weight is stored less one, become layer norms.
    """

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The plainer graph, and its weights: those that were stored less one, plus one."""
        live = without_dead(graph)
        made = dataclasses.replace(live, nodes=tuple(map(_plain, live.nodes)))
        weights = carried(graph, made)
        centred = [n for n in live.nodes if _is_centred(n) and not n.owner]
        keys = {f"{made.scopes[n.id]}.weight" for n in centred}
        params = {key: Affine(expr, 1.0, 1.0) if key in keys else expr for key, expr in weights.params.items()}
        return made, WeightMap(params, weights.dropped)


def _is_centred(node: Node) -> bool:
    return isinstance(node.op, LayerNorm) and node.op.zero_centred


def _plain(node: Node) -> Node:
    if not _is_centred(node):
        return node
    return dataclasses.replace(node, op=dataclasses.replace(node.op, zero_centred=False))  # type: ignore[call-arg]
