"""What the merge passes share: several units of a dim become one, and what lies within them is re-nested or averaged.

Merging is no Selection. A dim that lies within the merged one either keeps all its units (`nested`: the queries of two
KV heads become the queries of one), or is averaged unit by unit (the state of two groups). With neighbours merged,
whatever is laid out over a nested dim stays as it is: only its name for it changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from archc.ir import weight_expr as w
from archc.ir.dims import Axis, Concat, Dim
from archc.ir.graph import Graph, Node
from archc.ir.op import DimMaker, Op
from archc.ir.selection import Index, Selections, keep
from archc.ir.weightmap import WeightMap
from archc.passes.base import Context, Pass
from archc.passes.places import nodes_of
from archc.passes.scores import Scores, Values


@dataclass(frozen=True)
class Merge:
    """`groups` of units of `dim` that become one each, by weighted means (`weights`: as `groups`, each summing to 1).

    `nested` are the names of dims within `dim` that keep all their units."""

    dim: Dim
    groups: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    nested: frozenset[str]

    @property
    def order(self) -> Index:
        """All old units, those that become one next to each other."""
        return np.array([unit for group in self.groups for unit in group], dtype=np.int64)

    def merged(self, x: w.WeightExpr, axes: Sequence[Axis]) -> w.WeightExpr:
        """`x`, laid out as `axes`, with the units merged along every axis they lie on."""
        for position, axis in enumerate(axes):
            x = self._along(x, position, axis)
        return x

    def _along(self, x: w.WeightExpr, position: int, axis: Axis) -> w.WeightExpr:
        names = {d.name for d in axis.dims()}
        if self.dim.name not in names:
            return x
        if isinstance(axis, Concat):
            return w.Concat(tuple(self._parts(x, position, axis)), position)
        if names & self.nested:
            return self._reordered(x, position, axis)
        return self._averaged(x, position, axis)

    def _parts(self, x: w.WeightExpr, position: int, axis: Concat) -> Iterator[w.WeightExpr]:
        start = 0
        for _, part in axis.parts:
            yield self._along(w.Take(x, position, range(start, start + part.size)), position, part)
            start += part.size

    def _reordered(self, x: w.WeightExpr, position: int, axis: Axis) -> w.WeightExpr:
        order = self.order
        if (order == np.arange(len(order))).all():
            return x
        return w.Take(x, position, Selections([keep(self.dim, order)]).expand([axis]))

    def _averaged(self, x: w.WeightExpr, position: int, axis: Axis) -> w.WeightExpr:
        """One mean over all units where the weights are the same everywhere, else a mean for each."""
        if len(set(self.weights)) == 1:
            return self._mean(x, position, axis, list(zip(*self.groups, strict=True)), self.weights[0])
        each = (
            self._mean(x, position, axis, [(unit,) for unit in group], weights)
            for group, weights in zip(self.groups, self.weights, strict=True)
        )
        return w.Concat(tuple(each), position)

    def _mean(
        self, x: w.WeightExpr, position: int, axis: Axis, members: Sequence[tuple[int, ...]], weights: tuple[float, ...]
    ) -> w.WeightExpr:
        taken = (w.Take(x, position, Selections([keep(self.dim, units)]).expand([axis])) for units in members)
        return w.Linear(tuple(taken), weights)


@dataclass(frozen=True, kw_only=True, repr=False)
class MergePass(Pass):
    """Base of the merge passes, which say what they merge: the units `role` of every `kind`, `nested` dims within them
    and `averaged` ones.

    Say `to`, how many units are left, each a mean of neighbours, or `groups`, the units that become one each; `layers`
    limits it to those positions; `by` weighs the means by the scores of that estimator.
    """

    to: int | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    layers: tuple[int, ...] = ()
    by: str = ""

    approximate: ClassVar[bool] = True
    kind: ClassVar[type[Op]]
    role: ClassVar[str]
    nested: ClassVar[frozenset[str]] = frozenset()
    averaged: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def everywhere(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for size in {n.op.dims[cls.role].size for n in graph.nodes if isinstance(n.op, cls.kind)}:
            yield {"to": size // 2} if size % 2 == 0 else {"to": 1}

    @classmethod
    def idle(cls, graph: Graph) -> Iterator[Mapping[str, Any]]:
        for size in {n.op.dims[cls.role].size for n in graph.nodes if isinstance(n.op, cls.kind)}:
            yield {"to": size}

    @property
    def breaks(self) -> frozenset[str]:
        """The order of the units, and of those within them."""
        roles = {self.role, *self.nested, *self.averaged, *(("n_heads",) if self.nested else ())}
        return frozenset(f"sorted:{role}" for role in roles)

    def apply(self, graph: Graph, ctx: Context) -> tuple[Graph, WeightMap]:
        """The graph with merged units; weights laid out over nested dims are as they were.

        Raises PassError for groups that do not fit, and where there are no positive scores to weigh by.
        """
        merges = self._merges(graph, ctx)
        nodes = tuple(self._remade(node, merges) for node in graph.nodes)
        params: dict[str, w.WeightExpr] = {}
        for node, param in graph.params():
            key = f"{graph.scopes[node.id]}.{param.name}"
            params[key] = w.Old(key)
            for one in merges.values():
                params[key] = one.merged(params[key], param.axes)
        return dataclasses.replace(graph, nodes=nodes), WeightMap(params)

    def scores_after(self, graph: Graph, ctx: Context) -> Scores | None:
        """Scores of nested dims in rows of the new units; those of units that became means are lost."""
        if ctx.scores is None:
            return None
        merges = self._merges(graph, ctx)
        units = {by: dict(_kept(graph, dims, merges)) for by, dims in ctx.scores.units.items()}
        return dataclasses.replace(ctx.scores, units=units)

    def remade(self, op: Any, units: int) -> Op:
        """The op with so many units. Raises PassError where its rules do not allow that."""
        raise NotImplementedError

    def _merges(self, graph: Graph, ctx: Context) -> dict[str, Merge]:
        found = {}
        for op in (node.op for node in nodes_of(self, graph, self.kind, self.layers)):
            dim = op.dims[self.role]
            groups = self._groups(dim)
            nested = frozenset(op.dims[role].name for role in self.nested)
            found[dim.name] = Merge(dim, groups, self._weights(dim, groups, ctx), nested)
        return found

    def _remade(self, node: Node, merges: Mapping[str, Merge]) -> Node:
        dim = node.op.dims.get(self.role) if isinstance(node.op, self.kind) else None
        if dim is None or dim.name not in merges:
            return node
        return dataclasses.replace(node, op=self.remade(node.op, len(merges[dim.name].groups)))

    def _groups(self, dim: Dim) -> tuple[tuple[int, ...], ...]:
        if (self.to is None) == (self.groups is None):
            raise self.error("say either `to`, how many units are left, or `groups`, the units that become one each")
        if self.groups is None:
            return self._neighbours(dim, self.to or 0)
        if sorted(unit for group in self.groups for unit in group) != list(range(dim.size)):
            raise self.error(f"`groups` must name each of the {dim.size} units of `{dim}` once")
        sizes = {len(group) for group in self.groups}
        if 0 in sizes or (self.nested and len(sizes) > 1):
            raise self.error(f"`groups` must be equally large, since each shares out what lies within `{dim}`")
        if dim.order != "free" and self.groups != self._neighbours(dim, len(self.groups)):
            raise self.error(f"`{dim}` is {dim.order}: only neighbours can be merged")
        return self.groups

    def _neighbours(self, dim: Dim, to: int) -> tuple[tuple[int, ...], ...]:
        if to < 1 or dim.size % to:
            raise self.error(f"`to` must divide the {dim.size} units of `{dim}`: got {to}")
        return tuple(tuple(map(int, units)) for units in np.arange(dim.size).reshape(to, -1))

    def _weights(self, dim: Dim, groups: tuple[tuple[int, ...], ...], ctx: Context) -> tuple[tuple[float, ...], ...]:
        if not self.by:
            return tuple((1 / len(group),) * len(group) for group in groups)
        if ctx.scores is None:
            raise self.error(f"no scores to weigh by: measure `{self.by}`, or leave `by` out for plain means")
        scores = ctx.scores.of(dim, self.by)[0]
        if not (scores > 0).all():
            raise self.error(f"scores of `{dim}` must be positive to weigh by: the least is {scores.min():g}")
        return tuple(tuple(float(scores[unit] / scores[list(group)].sum()) for unit in group) for group in groups)


def remake(op: Op, **fields: Any) -> Op:
    """The op that `op`'s spec fields describe with some of them changed, its dims named as before.

    What follows from sizes (in which order units may stand) is thereby worked out anew."""
    return type(op).make(dataclasses.replace(op.fields(), **fields), _Renamed(op))


class _Renamed(DimMaker):
    """Makes the dims of an op anew, under the names they had."""

    def __init__(self, op: Op) -> None:
        super().__init__("", {})
        self.op = op

    def __call__(self, role: str, size: int = 0, *, within: Dim | None = None, order: str = "free") -> Dim:
        old = self.op.dims[role]
        if not size:
            return old
        multiple_of = old.multiple_of if size % old.multiple_of == 0 else 1
        return Dim(old.name, size, within, order, multiple_of)  # type: ignore[arg-type]


def _kept(graph: Graph, dims: Mapping[str, Values], merges: Mapping[str, Merge]) -> Iterator[tuple[str, Values]]:
    for name, values in dims.items():
        dim = graph.dims.get(name)
        touched = [m for m in merges.values() if dim is not None and m.dim in (dim, *dim.outer)]
        if not touched:
            yield name, values
        elif name in touched[0].nested:
            yield name, values[touched[0].order].reshape(len(touched[0].groups), -1)
