"""drop-blocks: the model without its least important layers (depth pruning)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from archc.ir.graph import LAYERS, Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError
from archc.passes.base import Context, Pass, register_pass
from archc.passes.drop_layers import DropLayers
from archc.passes.ranking import RANDOM, nodes_of


@register_pass("drop-blocks")
class DropBlocks(Pass):
    """Leave out the `count` layers of least importance `by` an estimator of blocks, of one `kind` or of any.

    `together` layers in a row go as one, their scores added up (2 where attention and MLP alternate, as in Llama).
    With `contiguous` they are one run, the one whose scores add up to least (Minitron in practice, Sreenivas et al.
    2024). `spare` counts layers at either end that stay. `drop-layers` takes positions instead.
    """

    count: int
    by: str = "influence"
    kind: str = ""
    together: int = 1
    contiguous: bool = False
    spare: int = 0
    seed: int = 0

    Examples = (
        {"count": 1, "by": "random", "kind": "moe"},
        {"count": 2, "by": "random", "together": 2, "contiguous": True, "seed": 1},
        {"count": 2, "by": "random", "spare": 1},
    )

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for kind in sorted({n.op.kind for n in graph.nodes if n.region == LAYERS and n.id.endswith(".mixer")}):
            yield {"count": 1, "by": "random", "kind": kind}

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The shallower graph; every weight that is left is as it was."""
        return DropLayers(layers=self.positions(graph, ctx)).apply(graph, ctx)

    def positions(self, graph: Graph, ctx: Context) -> tuple[int, ...]:
        """Which layers go, in order. Raises PassError where there are not so many."""
        units, goes = self._units(graph), self.count // self.together
        if self.count < 1 or self.count % self.together or goes > len(units):
            there = f"`{graph.name}` has {len(units) * self.together} that may go"
            each = f", {self.together} at a time" if self.together > 1 else ""
            raise self.error(f"{there}{each}: got {self.count}")
        scores = [sum(self._score(graph, i, ctx) for i in unit) for unit in units]
        if self.contiguous:
            sums = [sum(scores[start : start + goes]) for start in range(len(units) - goes + 1)]
            first = sums.index(min(sums))
            chosen: Sequence[int] = range(first, first + goes)
        else:
            chosen = sorted(sorted(range(len(units)), key=lambda u: scores[u])[:goes])
        return tuple(i for u in chosen for i in units[u])

    def _units(self, graph: Graph) -> list[tuple[int, ...]]:
        """Layers that may go, those that go together in one."""
        blocks = graph.blocks.get(LAYERS, ())
        try:
            kind = {n.block for n in nodes_of(graph, self.kind) if n.region == LAYERS}
        except ArchcError as error:
            raise self.error(str(error)) from None
        if self.together < 1 or self.spare < 0:
            raise self.error("`together` is 1 or more, `spare` 0 or more")
        inner = range(self.spare, len(blocks) - self.spare)
        may = [i for i in inner if not self.kind or blocks[i] in kind]
        return [tuple(may[i : i + self.together]) for i in range(0, len(may) - self.together + 1, self.together)]

    def _score(self, graph: Graph, position: int, ctx: Context) -> float:
        block = graph.blocks[LAYERS][position]
        if self.by == RANDOM:
            import random

            return random.Random(f"{self.seed} {block}").random()
        if ctx.scores is None:
            raise self.error(f"`by={self.by}` needs scores, and there are none: `archc importance` measures them")
        try:
            return ctx.scores.of_block(block, self.by)
        except ArchcError as error:
            raise self.error(str(error)) from None
