"""tie-embeddings: one matrix for the embedding and the head."""

from __future__ import annotations

from typing import Literal

from archc.ir.graph import Graph
from archc.ir.weight_expr import Linear, Old, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.tied import ends, with_owner


@register_pass("tie-embeddings")
class TieEmbeddings(Pass):
    """The head uses the embedding's weight (Press & Wolf 2017), which is what `source` had, or the mean of both.

    Approximate, unless the two are equal. A model that is tied already stays as it is.
    """

    source: Literal["embedding", "lm_head", "mean"] = "embedding"

    approximate = True
    Examples = ({}, {"source": "lm_head"}, {"source": "mean"})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with one matrix. Raises PassError where there is not one embedding and one head."""
        embedding, head = ends(self, graph)
        params: dict[str, WeightExpr] = {key: Old(key) for key in graph.weight_shapes()}
        if head.owner:
            return graph, WeightMap(params)
        first, last = (Old(f"{graph.scopes[n.id]}.weight") for n in (embedding, head))
        values = {"embedding": first, "lm_head": last, "mean": Linear((first, last), (0.5, 0.5))}
        params[first.name] = values[self.source]
        del params[last.name]
        unused = {"embedding": {last.name}, "lm_head": {first.name}, "mean": set()}
        return with_owner(graph, head, embedding.id, ()), WeightMap(params, frozenset(unused[self.source]))
