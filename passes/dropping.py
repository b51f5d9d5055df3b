"""What the drop passes of units share: some units of a dim go, with everything that lies within them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from archc.ir.dims import Dim
from archc.ir.graph import Graph
from archc.ir.selection import Selection, Selections
from archc.ir.slicing import select
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, PassError
from archc.passes.base import Context, Pass
from archc.passes.ranking import check_rules, dims_of, handed_on, kept, order_of
from archc.passes.scores import Scores


@dataclass(frozen=True, kw_only=True, repr=False)
class DropPass(Pass):
    """Base of the passes that drop whole units of `role`, by number or by importance.

    Say `units`, their numbers, or `count`, how many go of each layer, the least important `by` an estimator; `layers`
    limits it to those positions. What is left computes what it did without them.
    """

    units: tuple[int, ...] = ()
    count: int | None = None
    by: str = "activation"
    layers: tuple[int, ...] = ()
    seed: int = 0

    role: ClassVar[str]

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        if any(dim.size > 1 for node in graph.nodes if (dim := node.op.dims.get(cls.role))):
            yield {"count": 1, "by": "random"}

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph without the units. Raises PassError for units that there are not, and where none would be left."""
        try:
            made, weights = select(graph, self.chosen(graph, ctx))
            check_rules(graph, made)
        except ArchcError as error:
            raise self.error(str(error)) from None
        return made, weights

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Those of the units that are left."""
        return ctx.scores and handed_on(graph, ctx, self.chosen(graph, ctx)).scores

    def chosen(self, graph: Graph, ctx: Context) -> Selections:
        """What stays of every dim that is meant. Raises ArchcError, without the name of the pass."""
        if bool(self.units) == (self.count is not None):
            raise PassError("give one of `units` (their numbers) and `count` (how many)")
        dims = dims_of(graph, self.role, layers=self.layers)
        return Selections([self._left(dim, ctx) for dim, _ in dims.values()])

    def _left(self, dim: Dim, ctx: Context) -> Selection:
        wrong = [unit for unit in self.units if not 0 <= unit < dim.size]
        if wrong:
            raise PassError(f"`{dim.name}` has the units 0 to {dim.size - 1}: got {', '.join(map(str, wrong))}")
        goes = len(set(self.units)) if self.count is None else self.count
        if not 0 < goes < dim.size:
            raise PassError(f"`{dim.name}` has {dim.size} units, of which 1 to {dim.size - 1} may go: got {goes}")
        if self.units:
            return kept(dim, np.setdiff1d(np.arange(dim.size), self.units)[None])
        return kept(dim, np.sort(order_of(dim, ctx, self.by, self.seed)[:, : dim.size - goes], axis=1))
