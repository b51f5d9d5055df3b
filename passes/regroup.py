"""regroup: heads change their groups, so that every group has as many of the best of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from archc.ir.dims import Axis, Concat, Dim, Product
from archc.ir.graph import Graph
from archc.ir.selection import Index, Selections, keep
from archc.ir.slicing import sliced
from archc.ir.weight_expr import Old, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, PassError
from archc.passes.base import Context, Pass, register_pass
from archc.passes.ranking import dims_of, ranked
from archc.passes.scores import Scores


@register_pass("regroup")
class Regroup(Pass):
    """Spread the `to` most important heads over all groups equally; as few as must change their group.

    `dim` is a product such as `n_heads`, whose units lie within groups (of Mamba-2: those of B and C; of attention: KV
    heads). Every group then has as many of the best as another, so that a `prune` of `n_heads` to `to` keeps the best
    of all, where by itself it keeps the best of each group. A head that changes its group meets other B and C, or keys
    and values, than it was trained with: this is approximate, and Minitron-SSM (Taghibakhshi et al. 2025, section 3)
    ranks within groups for that reason. Raises PassError for a dim whose units lie within no other.
    """

    dim: str
    to: int
    by: str = "activation"
    kind: str = ""
    layers: tuple[int, ...] = ()
    seed: int = 0

    approximate = True
    Examples = (
        {"dim": "n_heads", "to": 2, "by": "random", "kind": "mamba2"},
        {"dim": "n_heads", "to": 2, "by": "random", "kind": "attention", "layers": (3,)},
    )

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The same graph; weights of heads have changed places."""
        orders = self.orders(graph, ctx)
        params: dict[str, WeightExpr] = {key: Old(key) for key in graph.weight_shapes()}
        for node, param in graph.params():
            key = f"{graph.scopes[node.id]}.{param.name}"
            for dim, order in orders:
                flat = Dim(f"all {dim.name}", order.size)
                axes = [_flat(axis, dim, flat) for axis in param.axes]
                params[key] = sliced(params[key], axes, Selections([keep(flat, order)]))
        return graph, WeightMap(params)

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Those of the units in their new places."""
        if ctx.scores is None:
            return None
        orders = {dim.name: order for dim, order in self.orders(graph, ctx)}
        units = {
            by: {name: v.ravel()[orders[name]].reshape(v.shape) if name in orders else v for name, v in dims.items()}
            for by, dims in ctx.scores.units.items()
        }
        return dataclasses.replace(ctx.scores, units=units)

    def orders(self, graph: Graph, ctx: Context) -> list[tuple[Dim, Index]]:
        """Of each dim that is meant, the old unit, counted through all groups, at every new place."""
        try:
            dims = dims_of(graph, self.dim, self.kind, self.layers)
            return [(dim, self._order(dim, ctx)) for dim, _ in dims.values()]
        except ArchcError as error:
            raise self.error(str(error)) from None

    def _order(self, dim: Dim, ctx: Context) -> Index:
        if dim.within is None or dim.order != "free":
            raise PassError(f"`{dim.name}` lies within nothing, or has a fixed order")
        if not 0 < self.to <= dim.rows * dim.size or self.to % dim.rows:
            raise PassError(f"`to` is a multiple of {dim.rows} and up to {dim.rows * dim.size}: got {self.to}")
        values = ranked(dim, ctx, self.by, self.seed)
        best = np.argsort(-values, axis=None, kind="stable")[: self.to]
        return _spread(best, dim.rows, dim.size, self.to // dim.rows)


def _spread(best: Index, groups: int, size: int, share: int) -> Index:
    """Places of all units, `share` of the best in every group: each stays where it is as long as there is room."""
    kept: list[list[int]] = [[] for _ in range(groups)]
    moved: list[int] = []
    for unit in best.tolist():
        home = kept[unit // size]
        (home if len(home) < share else moved).append(unit)
    for members in kept:
        while len(members) < share:
            members.append(moved.pop(0))
    chosen = set(best.tolist())
    others: list[list[int]] = [[u for u in range(g * size, (g + 1) * size) if u not in chosen] for g in range(groups)]
    spare = [u for rest in others for u in rest[size - share :]]
    for members, rest in zip(kept, others, strict=True):
        members += rest[: size - share]
        while len(members) < size:
            members.append(spare.pop(0))
    return np.array([unit for members in kept for unit in sorted(members)], dtype=np.int64)


def _flat(axis: Axis, dim: Dim, flat: Dim) -> Axis:
    """The axis with the dim and those that it lies within, in their order, as one dim of all units."""
    if isinstance(axis, Concat):
        return Concat(tuple((name, _flat(part, dim, flat)) for name, part in axis.parts))
    if not isinstance(axis, Product) or dim not in axis.parts:
        return axis
    at = axis.parts.index(dim)
    outer: Sequence[Dim] = dim.outer
    if tuple(axis.parts[at - len(outer) : at]) != tuple(outer):
        raise PassError(f"`{dim.name}` lies apart from `{dim.within}` on an axis")
    return Product((*axis.parts[: at - len(outer)], flat, *axis.parts[at + 1 :]))
