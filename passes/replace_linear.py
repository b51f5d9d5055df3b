"""replace-linear: blocks by one linear map each."""

from __future__ import annotations

from archc.ir.graph import Graph
from archc.ir.op import Param
from archc.ir.ops.linear import LinearMap
from archc.ir.weight_expr import Cast, Const, File, WeightExpr
from archc.ir.weight_formats import check_dtype
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass, register_pass
from archc.passes.places import mixers
from archc.passes.replacing import replaced, scores_without
from archc.passes.scores import Scores


@register_pass("replace-linear")
class ReplaceLinear(Pass):
    """A linear map of its normed input in the place of each mixer at `layers` (Puzzle, Bercovich et al. 2024).

    `path` is the safetensors file of fitted maps (`archc.passes.ridge.fit_linear`), with the keys `L3.mixer.weight`,
    `L3.mixer.offset` in fp64, relative to the folder that the map of weights is run over; `sha256` is the file's.
    Without a file the maps start at zero, to be trained. `dtype` is the storage type that they get.
    """

    layers: tuple[int, ...]
    path: str = ""
    sha256: str = ""
    bias: bool = False
    dtype: str = "fp32"

    approximate = True
    Examples = ({"layers": (1,)}, {"layers": (0, 3), "bias": True})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with linear blocks. Raises PassError for positions that there are not, and half-named files."""
        if bool(self.path) != bool(self.sha256):
            raise self.error("fitted maps need both `path` and `sha256`, that of the file")
        check_dtype(self.dtype)
        nodes = mixers(self, graph, self.layers)
        ops = {n.id: LinearMap(d_model=n.op.dims["d_model"], bias=self.bias) for n in nodes}
        made = {name: {p.name: self._value(name, p) for p in op.params()} for name, op in ops.items()}
        return replaced(graph, ops, made)

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Without those of the blocks that are gone."""
        return scores_without(ctx.scores, frozenset(n.id for n in mixers(self, graph, self.layers)))

    def _value(self, node: str, param: Param) -> WeightExpr:
        if not self.path:
            return Const(0.0, param.shape, self.dtype)
        return Cast(File(self.path, f"{node}.{param.name}", self.sha256, param.shape, "fp64"), self.dtype)
