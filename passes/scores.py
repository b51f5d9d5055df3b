"""Scores: how much each unit of a dim matters, and each block, by estimator.

Estimators measure them on one graph (`archc.passes.importance`); passes that choose units read them, and a pass that
keeps some of the units hands on the scores of those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from archc.ir.dims import Dim
from archc.ir.graph import Graph
from archc.ir.selection import Selections
from archc.kernels.errors import PassError, UnknownName

T = TypeVar("T")
Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """What estimators say of a graph: more is more important.

    `units[by][dim name]` is `[rows, size]`, a row for each unit of the dims that the dim lies within;
    `blocks[by][block id]` is a number. `graph` is the short hash of the graph that was measured; `about` says how:
    options, data, tokens.
    """

    graph: str
    units: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, dim: Dim, by: str) -> Values:
        """Scores of a dim's units, `[rows, size]`. Raises PassError where the estimator did not measure it."""
        found = _estimator(self.units, by, "units").get(dim.name)
        if found is None:
            raise PassError(f"`{by}` has no scores of `{dim.name}`: it has those of {_some(self.units[by])}")
        if found.shape != (max(dim.rows, 1), dim.size):
            raise PassError(
                f"`{by}` scores `{dim.name}` as {list(found.shape)}, which is [{max(dim.rows, 1)}, {dim.size}] here"
            )
        return found

    def of_block(self, block: str, by: str) -> float:
        """The score of a block by its id. Raises PassError where the estimator did not measure it."""
        found = _estimator(self.blocks, by, "blocks").get(block)
        if found is None:
            raise PassError(f"`{by}` has no score of the block `{block}`: it has those of {_some(self.blocks[by])}")
        return found

    def selected(self, graph: Graph, chosen: Selections) -> Scores:
        """The scores of the units that are kept, in their order, `graph` being the one they are chosen from."""
        units = {
            by: {name: _kept(graph.dims[name], values, chosen) for name, values in dims.items() if name in graph.dims}
            for by, dims in self.units.items()
        }
        return dataclasses.replace(self, units=units)


def _estimator(kind: Mapping[str, Mapping[str, T]], by: str, what: str) -> Mapping[str, T]:
    if by not in kind:
        raise UnknownName(f"scores of {what}", by, kind)
    return kind[by]


def _kept(dim: Dim, values: Values, chosen: Selections) -> Values:
    rows = values[chosen.expand(dim.outer)] if dim.outer else values
    return np.take_along_axis(rows, np.broadcast_to(chosen.rows(dim), (len(rows), chosen.size(dim))), axis=1)


def _some(names: Iterable[str]) -> str:
    listed = [f"`{n}`" for n in names]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
