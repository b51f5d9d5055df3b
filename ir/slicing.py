"""What a Selection does to a graph and its weights: dims resized, every parameter taken along its axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from archc.ir.dims import Axis
from archc.ir.graph import Graph
from archc.ir.selection import Selection, Selections
from archc.ir.verify import verify
from archc.ir.weight_expr import Affine, Old, Reshape, Take, WeightExpr
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import GraphError


def select(
    graph: Graph, chosen: Selections | Iterable[Selection], *, as_zeroed: bool = False
) -> tuple[Graph, WeightMap]:
    """The graph with dims cut down (or permuted) as chosen, and the map that carries its weights.

    The result is the old graph with the other units zeroed, every norm's statistics taken over the kept units of its
    group; with `as_zeroed` over all of them. Raises GraphError for a dim that the graph lacks or that does not permit
    it: a `fixed` dim stays whole, a `pairs` dim is cut and permuted in whole pairs.
    """
    selections = chosen if isinstance(chosen, Selections) else Selections(list(chosen))
    _permitted(graph, selections)
    nodes, params = [], {}
    for node in graph.nodes:
        op, factors = node.op.selected(selections, as_zeroed=as_zeroed)
        nodes.append(dataclasses.replace(node, op=op))
        for param in () if node.owner else node.op.params():
            key = f"{graph.scopes[node.id]}.{param.name}"
            params[key] = _scaled(sliced(Old(key), param.axes, selections), factors.get(param.name, 1.0))
    return verify(dataclasses.replace(graph, nodes=tuple(nodes))), WeightMap(params)


def _scaled(x: WeightExpr, factor: float) -> WeightExpr:
    return x if math.isclose(factor, 1.0, rel_tol=1e-15) else Affine(x, scale=factor)


def carried(old: Graph, new: Graph) -> WeightMap:
    """The map of a graph made of nodes of `old`: every weight as it was, found by the id of its node.

    Weights of nodes that are gone are dropped. Raises GraphError for a node that `old` lacks."""
    params: dict[str, WeightExpr] = {}
    for node, param in new.params():
        if node.id not in old.by_id:
            raise GraphError(f"`{node.id}` is no node of `{old.name}`: its weights come from nowhere")
        params[f"{new.scopes[node.id]}.{param.name}"] = Old(f"{old.scopes[node.id]}.{param.name}")
    used = {expr.name for expr in params.values() if isinstance(expr, Old)}
    return WeightMap(params, frozenset(old.weight_shapes().keys() - used))


def sliced(x: WeightExpr, axes: Sequence[Axis], chosen: Selections) -> WeightExpr:
    """`x`, laid out as `axes`, with the chosen units taken along every axis they lie on."""
    shape = [axis.size for axis in axes]
    for start, stop in _groups(axes, chosen):
        group = axes[start:stop]
        if not any(chosen.touches(a) for a in group):
            continue
        index = chosen.expand(group)
        if stop - start == 1:
            x = Take(x, start, index)
            shape[start] = len(index)
            continue
        flat = [*shape[:start], -1, *shape[stop:]]
        flat[start] = _product(shape[start:stop])
        kept = [_kept(a, chosen) for a in group]
        x = Take(Reshape(x, tuple(flat)), start, index)
        shape[start:stop] = kept
        x = Reshape(x, tuple(shape))
    return x


def _groups(axes: Sequence[Axis], chosen: Selections) -> Iterator[tuple[int, int]]:
    """Runs of adjacent axes that must be indexed together: a dim whose kept units differ per outer unit is
    indexed together with the axis that shows the outer dim."""
    start = 0
    for stop in range(1, len(axes) + 1):
        if stop == len(axes) or not _leans_on(axes[stop], axes[start:stop], chosen):
            yield start, stop
            start = stop


def _leans_on(axis: Axis, before: Sequence[Axis], chosen: Selections) -> bool:
    shown = {d.name for a in before for d in a.dims()}
    own = {d.name for d in axis.dims()}
    ragged = (d for d in axis.dims() if d.name in chosen and not chosen[d.name].uniform)
    return any(outer.name in shown and outer.name not in own for d in ragged for outer in d.outer)


def _kept(axis: Axis, chosen: Selections) -> int:
    return len(chosen.expand([axis])) if not _ragged(axis, chosen) else _product(chosen.size(d) for d in axis.dims())


def _ragged(axis: Axis, chosen: Selections) -> bool:
    return any(d.name in chosen and not chosen[d.name].uniform for d in axis.dims())


def _product(sizes: Iterable[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _permitted(graph: Graph, chosen: Mapping[str, Selection]) -> None:
    problems = []
    for name, selection in chosen.items():
        known = graph.dims.get(name)
        if known is None or known.size != selection.dim.size:
            problems.append(f"`{name}`[{selection.dim.size}] is no dim of this graph")
        elif known.order == "fixed" and not selection.is_identity:
            problems.append(f"`{name}` is fixed: its units cannot be chosen or reordered")
        elif known.order == "pairs" and not _keeps_pairs(selection):
            problems.append(f"`{name}` is pairs: channel i goes with channel i + {known.size // 2}, kept in order")
    if problems:
        raise GraphError("selection refused: " + "; ".join(problems))


def _keeps_pairs(selection: Selection) -> bool:
    """Whether the kept channels are whole rotary pairs: the first of each, then the second of each."""
    first, second = np.split(selection.index, 2, axis=1) if selection.kept % 2 == 0 else (selection.index, None)
    return second is not None and bool((second == first + selection.dim.size // 2).all())
