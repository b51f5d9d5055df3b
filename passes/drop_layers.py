"""drop-layers: the model without some of its layers (depth pruning)."""

from __future__ import annotations

from archc.ir.graph import LAYERS, Graph
from archc.ir.slicing import carried
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import GraphError
from archc.passes.base import Context, Pass, register_pass


@register_pass("drop-layers")
class DropLayers(Pass):
    """Leave out the layers at these positions, counted from 0; the residual stream runs past them.

    Minitron (Sreenivas et al. 2024) and Nemotron Nano 2 prune depth so. Ids of the other layers stay, positions and
    scopes close up. Raises PassError for a position that there is not or that comes twice, and for a layer whose
    parameters another uses.
    """

    layers: tuple[int, ...]

    Examples = ({"layers": (1,)}, {"layers": (0, 3)}, {"layers": ()})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The shorter graph; every weight that is left is as it was."""
        blocks = graph.blocks.get(LAYERS, ())
        twice = sorted({i for i in self.layers if self.layers.count(i) > 1})
        if twice:
            raise self.error(f"layers named twice: {', '.join(map(str, twice))}")
        wrong = [i for i in self.layers if not 0 <= i < len(blocks)]
        if wrong:
            raise self.error(f"`{graph.name}` has layers 0 to {len(blocks) - 1}: got {', '.join(map(str, wrong))}")
        try:
            made = graph.without_blocks((LAYERS, blocks[i]) for i in self.layers)
        except GraphError as error:
            raise self.error(str(error)) from None
        return made, carried(graph, made)
