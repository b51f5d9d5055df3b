"""Dims that units of another could have each their own of: the channels of heads, which all heads share.

Where every axis that has a dim shows another before it, each unit of that other may keep units of its own, and the
function is that of the parent without the rest. `finer` says of which dims that holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from archc.ir.dims import Axis, Concat, Dim, Product
from archc.ir.graph import Graph


def finer(graph: Graph) -> Mapping[str, Dim]:
    """By name, each dim that lies within none but could: nested in the innermost dim that all its axes show before it.

    Rotary pairs are none of them: their frequencies are those of all heads."""
    shown: dict[str, list[tuple[Dim, ...]]] = {}
    for _, param in graph.params():
        for axis in param.axes:
            for dim, before in _occurrences(axis):
                if dim.within is None and dim.order == "free":
                    shown.setdefault(dim.name, []).append(before)
    found = {}
    for name, all_before in shown.items():
        common = [d for d in all_before[0] if all(d in before for before in all_before)]
        inner = [d for d in common if set(d.outer) <= set(common)]
        if inner:
            found[name] = dataclasses.replace(graph.dims[name], within=inner[-1])
    return found


def nested(graph: Graph, dims: Mapping[str, Dim]) -> Graph:
    """The graph with some of its dims as `finer` gives them."""
    return graph.with_dims(lambda d: dims.get(d.name, d))


def shared(graph: Graph, names: Collection[str]) -> Graph:
    """The graph whose dims of these names lie within none."""
    return graph.with_dims(lambda d: dataclasses.replace(d, within=None) if d.name in names else d)


def _occurrences(axis: Axis) -> Iterator[tuple[Dim, tuple[Dim, ...]]]:
    """Every dim on an axis, with the dims that stand before it in its product."""
    if isinstance(axis, Dim):
        yield axis, ()
    elif isinstance(axis, Concat):
        for _, part in axis.parts:
            yield from _occurrences(part)
    else:
        yield from _in_product(axis)


def _in_product(axis: Product) -> Iterator[tuple[Dim, tuple[Dim, ...]]]:
    before: tuple[Dim, ...] = ()
    for part in axis.parts:
        if isinstance(part, Dim):
            yield part, before
            before = (*before, part)
        else:
            yield from _occurrences(part)
