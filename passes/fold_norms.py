"""fold-norms: the gains of norms in the matrices behind them."""

from __future__ import annotations

from archc.ir.graph import Graph, Node
from archc.ir.ops.norms import RMSNorm
from archc.ir.weight_expr import Affine, Old, Scale, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass


@register_pass("fold-norms")
class FoldNorms(Pass):
    """Multiply the weight of each RMS norm into the matrices that read it, and leave ones: the same function.

    What rotations of the residual stream start from (SliceGPT, Ashkboos et al. 2024, section 3.2). Norms stay as they
    are whose result an output, another norm or a joint uses as well, and those of shared blocks.
    """

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The same graph with other weights."""
        params: dict[str, WeightExpr] = {key: Old(key) for key in graph.weight_shapes()}
        for norm, readers in _foldable(graph):
            gain = Old(f"{graph.scopes[norm.id]}.weight")
            for reader in readers:
                for param in reader.op.input_products:
                    key = f"{graph.scopes[reader.id]}.{param.name}"
                    params[key] = Scale(params[key], gain, len(param.axes) - 1)
            params[gain.name] = Affine(gain, 0.0, 1.0)
        return graph, WeightMap(params)


def _foldable(graph: Graph) -> list[tuple[Node, list[Node]]]:
    """Norms with the nodes that read them, where all of these do so by products with parameters of their own."""
    shared = {n.owner for n in graph.nodes if n.owner} | {n.id for n in graph.nodes if n.owner}
    outputs = {node_id for _, node_id in graph.outputs}
    found = []
    for norm in (n for n in graph.nodes if isinstance(n.op, RMSNorm)):
        readers = [n for n in graph.nodes if norm.id in n.inputs]
        alone = norm.id not in outputs and not {norm.id, *(n.id for n in readers)} & shared
        if alone and readers and all(n.op.input_products for n in readers):
            found.append((norm, readers))
    return found
