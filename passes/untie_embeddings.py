"""untie-embeddings: a matrix of its own for the head."""

from __future__ import annotations

from archc.ir.graph import Graph
from archc.ir.weight_expr import Old, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.tied import ends, with_owner


@register_pass("untie-embeddings")
class UntieEmbeddings(Pass):
    """The head gets a copy of the embedding's weight that it used so far: the same function, two matrices to train.

    A model that is not tied stays as it is.
    """

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with two matrices. Raises PassError where there is not one embedding and one head."""
        embedding, head = ends(self, graph)
        made = with_owner(graph, head, "", embedding.formats) if head.owner else graph
        shared = Old(f"{graph.scopes[embedding.id]}.weight")
        params: dict[str, WeightExpr] = {key: Old(key) for key in graph.weight_shapes()}
        return made, WeightMap({key: params.get(key, shared) for key in made.weight_shapes()})
