"""replace-linear: blocks by one linear map each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from archc.ir.graph import Graph
from archc.ir.op import Param
from archc.ir.ops.linear import LinearMap
from archc.ir.weight_expr import Cast, Const, File, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, register_pass
from archc.passes.fitted import FittedPass
from archc.passes.places import mixers
from archc.passes.replacing import replaced, scores_without, storage_type
from archc.passes.ridge import fit_linear
from archc.passes.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor


@register_pass("replace-linear")
class ReplaceLinear(FittedPass):
    """A linear map of its normed input in the place of each mixer at `layers` (Puzzle, Bercovich et al. 2024).

    `path` is the safetensors file of fitted maps (`archc.passes.ridge.fit_linear`), with the keys `L3.mixer.weight`,
    `L3.mixer.offset` in fp64; `sha256` is the file's. Without a file the maps start at zero, to be trained. `bias` and
    `ridge` are those of the fit, where the maps are fitted in the same run (`calibration` in a recipe): all of `layers`
    as they stand before this pass. `dtype` is the storage type that they get, by default that of the block before.
    """

    layers: tuple[int, ...]
    path: str = ""
    sha256: str = ""
    bias: bool = False
    ridge: float = 1e-4
    dtype: str = ""

    approximate = True
    Examples = ({"layers": (1,)}, {"layers": (0, 3), "bias": True})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with linear blocks. Raises PassError for positions that there are not, and half-named files."""
        if bool(self.path) != bool(self.sha256):
            raise self.error("fitted maps need both `path` and `sha256`, that of the file")
        ops, made = {}, {}
        for node in mixers(self, graph, self.layers):
            dtype = storage_type(graph, node, ctx, self.dtype)
            ops[node.id] = LinearMap(d_model=node.op.dims["d_model"], bias=self.bias)
            made[node.id] = {p.name: self._value(node.id, p, dtype) for p in ops[node.id].params()}
        return replaced(graph, ops, made)

    def fit(
        self, graph: Graph, weights: Mapping[str, Tensor], batches: Iterable[Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """The map of each block, by ridge regression."""
        blocks = [node.id.rpartition(".")[0] for node in mixers(self, graph, self.layers)]
        return fit_linear(graph, weights, batches, blocks, ridge=self.ridge, bias=self.bias)

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Without those of the blocks that are gone."""
        return scores_without(ctx.scores, frozenset(n.id for n in mixers(self, graph, self.layers)))

    def _value(self, node: str, param: Param, dtype: str) -> WeightExpr:
        if not self.path:
            return Const(0.0, param.shape, dtype)
        return Cast(File(self.path, f"{node}.{param.name}", self.sha256, param.shape, "fp64"), dtype)
