"""Sums by unit of a dim: of values laid out as axes, over everything that each of its units owns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from archc.ir.dims import Axis, Concat, Dim
from archc.ir.nesting import finer
from archc.passes.scores import Values, per_unit

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.graph import Graph


def by_unit(value: Tensor, dims: Sequence[Dim], dim: Dim) -> Values:
    """`[rows, size]`: the sum of `value` [*dims] over all that is a unit's, by the row of the dims it lies within.

    Where `dims` lack some of those, the units are the same in each of their rows. Where a dim is there twice, what both
    name is counted once."""
    names = [d.name for d in dims]
    chain = [*dim.outer, dim]
    here = [d for d in chain if d.name in names]
    total = _once(value, names, here)
    for i, d in enumerate(chain):
        if d not in here:
            total = total.unsqueeze(i)
    whole: Tensor = total.broadcast_to([d.size for d in chain]).reshape(max(dim.rows, 1), dim.size)
    found: Values = whole.double().cpu().numpy()
    return found


def _once(value: Tensor, names: list[str], here: Sequence[Dim]) -> Tensor:
    """[*here]: sums over the other axes; an axis pair of one dim counts rows and columns, less the diagonal."""
    import torch

    twice = next(((i, names.index(n, i + 1)) for i, n in enumerate(names) if n in names[i + 1 :]), None)
    if twice is None or names[twice[0]] not in [d.name for d in here]:
        others = [i for i, n in enumerate(names) if n not in [d.name for d in here]]
        summed = value.sum(others) if others else value
        left = [n for n in names if n in [d.name for d in here]]
        return summed.permute([left.index(d.name) for d in here])
    i, j = twice
    by_row = _once(value, [f"{n} " if k == j else n for k, n in enumerate(names)], here)
    by_column = _once(value, [f"{n} " if k == i else n for k, n in enumerate(names)], here)
    both = torch.diagonal(value, dim1=i, dim2=j)
    rest = [n for k, n in enumerate(names) if k not in (i, j)]
    return by_row + by_column - _once(both, [*rest, names[i]], here)


def pieces(value: Tensor, axes: Sequence[Axis]) -> Iterator[tuple[Tensor, tuple[Dim, ...]]]:
    """A tensor laid out as `axes` in parts [*dims] of single dims: concatenations apart, products unfolded."""
    import torch

    for i, axis in enumerate(axes):
        if isinstance(axis, Dim):
            continue
        before, after = axes[:i], axes[i + 1 :]
        if isinstance(axis, Concat):
            parts = torch.split(value, [part.size for _, part in axis.parts], dim=i)
            for part, (_, inner) in zip(parts, axis.parts, strict=True):
                yield from pieces(part, (*before, inner, *after))
        else:
            shape = [*value.shape[:i], *(p.size for p in axis.parts), *value.shape[i + 1 :]]
            yield from pieces(value.reshape(shape), (*before, *axis.parts, *after))
        return
    yield value, tuple(a for a in axes if isinstance(a, Dim))


def owned(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, Values]:
    """Sums, by unit of every dim, over all that it owns of values that are shaped like the weights, by key.

    Dims that heads share are summed head by head, too."""
    totals: dict[str, Values] = {}
    nested = finer(graph)
    for node, param in graph.params():
        key = f"{graph.scopes[node.id]}.{param.name}"
        if key not in values:
            continue
        for part, dims in pieces(values[key], param.axes):
            here = {d.name: d for d in dims}
            here |= {per_unit(nested[name]): nested[name] for name in here if name in nested}
            for name, dim in here.items():
                found = by_unit(part.double() if math.prod(part.shape) else part, dims, dim)
                totals[name] = totals[name] + found if name in totals else found
    return {name: np.ascontiguousarray(total) for name, total in totals.items()}
