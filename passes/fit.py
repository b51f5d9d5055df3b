"""fit: dims narrowed alike until the model fits a budget of parameters."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import Unit

from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import PassError
from archc.passes.base import Context, Pass, register_pass
from archc.passes.prune import Prune
from archc.passes.ranking import FIRST
from archc.passes.scores import Scores

SHARES = 4096  # shares of units that are tried
Parameters = Annotated[int, Unit("parameters")]  # a recipe may say 4.0B


@register_pass("fit")
class Fit(Pass):
    """Keep the same share of the units of every one of `dims`, the largest share whose model has at most `params`
    parameters, or at most `active` of them at work for a token.

    What is kept of a dim is rounded to a multiple of its number in `multiples`; which units, `by` an estimator as in
    `prune`. Raises PassError where even the smallest share is too much.
    """

    dims: tuple[str, ...]
    params: Parameters | None = None
    active: Parameters | None = None
    multiples: tuple[int, ...] = ()
    by: str = "activation"
    seed: int = 0

    Examples = (
        {"params": 1_500_000, "dims": ("d_model", "d_ff"), "multiples": (8, 16), "by": "random"},
        {"active": 1_000_000, "dims": ("n_heads", "d_ff", "d_model"), "by": "first"},
    )

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        yield {"params": 10**12, "dims": ("d_model",), "by": "random"}

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The narrower graph, and its weights taken from the old ones."""
        weights = WeightMap.identity(graph.weight_shapes())
        for one in self.prunes(graph):
            before, before_ctx = graph, ctx
            graph, taken = one.apply(before, before_ctx)
            ctx = Context(ctx.holds, one.scores_after(before, before_ctx))
            weights = WeightMap.compose(weights, taken)
        return graph, weights

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Those of the units that are kept."""
        for one in self.prunes(graph) if ctx.scores else ():
            scores = one.scores_after(graph, ctx)
            graph, ctx = one.apply(graph, ctx)[0], Context(ctx.holds, scores)
        return ctx.scores

    def prunes(self, graph: Graph) -> list[Prune]:
        """The passes that this one is. Raises PassError where no share fits."""
        if (self.params is None) == (self.active is None):
            raise self.error("give one of `params` and `active`")
        if self.multiples and len(self.multiples) != len(self.dims):
            raise self.error(f"`multiples` are one for each of `dims`: got {len(self.multiples)} and {len(self.dims)}")
        if self._count(graph) <= self._limit:
            return []
        shares = range(1, SHARES + 1)
        fits = bisect.bisect_right(shares, self._limit, key=lambda n: self._count(self._narrow(graph, n / SHARES)))
        if not fits:
            least = self._count(self._narrow(graph, 1 / SHARES))
            raise self.error(f"`{graph.name}` cannot be that small: the least of these dims is {least:,}")
        return self.at(fits / SHARES, self.by)

    @property
    def _limit(self) -> int:
        return self.params or self.active or 0

    def _count(self, graph: Graph) -> int:
        params = graph.cost().params
        return int(params.total if self.params is not None else params.active)

    def _narrow(self, graph: Graph, share: float) -> Graph:
        """The graph at a share: which units stay makes no difference to its size."""
        for one in self.at(share, FIRST):
            try:
                graph = one.apply(graph, Context())[0]
            except PassError as error:
                raise self.error(str(error)) from None
        return graph

    def at(self, share: float, by: str) -> list[Prune]:
        """The passes that keep a share."""
        steps = self.multiples or (1,) * len(self.dims)
        return [
            Prune(dim=dim, keep=share, multiple_of=step, by=by, seed=self.seed)
            for dim, step in zip(self.dims, steps, strict=True)
        ]
