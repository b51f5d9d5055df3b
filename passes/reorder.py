"""reorder: units of a dim in order of importance, the function unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archc.ir.graph import Graph
from archc.ir.selection import Selections
from archc.ir.slicing import select
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError
from archc.passes.base import Context, Pass, register_pass
from archc.passes.ranking import dims_of, free_roles, handed_on, kept, order_of
from archc.passes.scores import Scores


@register_pass("reorder")
class Reorder(Pass):
    """Put the most important units of a dim first, as the dim's order allows: rotary channels in whole pairs.

    The model computes what it did; a prefix of the units is then a smaller model (elastic training builds on it).
    `dim`, `kind` and `layers` are those of `prune`. Raises PassError for a dim that may not be reordered.
    """

    dim: str
    by: str = "activation"
    kind: str = ""
    layers: tuple[int, ...] = ()
    seed: int = 0

    Examples = (
        {"dim": "d_model", "by": "random"},
        {"dim": "head_dim", "by": "random", "kind": "attention"},
        {"dim": "heads_per_group", "by": "random", "seed": 2},
        {"dim": "d_ff", "by": "random", "layers": (1,)},
    )

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for kind, role in free_roles(graph):
            yield {"dim": role, "kind": kind, "by": "random"}

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for kind, role in free_roles(graph):
            yield {"dim": role, "kind": kind, "by": "first"}

    @property
    def provides(self) -> frozenset[str]:
        """`sorted:<dim>`, where all dims of the role are."""
        return frozenset() if self.kind or self.layers else frozenset({f"sorted:{self.dim}"})

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph, units of whose weights have changed places."""
        try:
            return select(graph, self.chosen(graph, ctx))
        except ArchcError as error:
            raise self.error(str(error)) from None

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Those of the units in their new order."""
        return ctx.scores and handed_on(graph, ctx, self.chosen(graph, ctx)).scores

    def chosen(self, graph: Graph, ctx: Context) -> Selections:
        """The new order of every dim that is meant. Raises ArchcError, without the name of the pass."""
        dims = dims_of(graph, self.dim, self.kind, self.layers)
        return Selections([kept(dim, order_of(dim, ctx, self.by, self.seed)) for dim, _ in dims.values()])
