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
from archc.ir.nesting import finer
from archc.ir.selection import Selections
from archc.kernels.errors import PassError, UnknownName

T = TypeVar("T")
Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """What estimators say of a graph: more is more important.

    `units[by][dim name]` is `[rows, size]`, a row for each unit of the dims that the dim lies within; of a dim that all
    heads share there is `<dim name> per <role>` too, a row for each head (`per_unit`).
    `blocks[by][block id]` is a number. `graph` is the short hash of the graph that was measured; `about` says how:
    options, data, tokens.
    """

    graph: str
    units: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, dim: Dim, by: str) -> Values:
        """Scores of a dim's units, `[rows, size]`. Raises PassError where the estimator did not measure it."""
        measured = _estimator(self.units, by, "units")
        found = measured.get(per_unit(dim), measured.get(dim.name))
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
        of = {**graph.dims, **{per_unit(dim): dim for dim in finer(graph).values()}}
        units = {
            by: {n: _kept(of[n], v, chosen) for n, v in dims.items() if n in of and _same_rows(of[n], chosen)}
            for by, dims in self.units.items()
        }
        return dataclasses.replace(self, units=units)


def per_unit(dim: Dim) -> str:
    """What scores of a dim are called in rows of the dim that it lies within, where the model's own lies within none.

    >>> per_unit(Dim("L0.mixer.head_dim", 64, within=Dim("L0.mixer.n_kv_heads", 8)))
    'L0.mixer.head_dim per n_kv_heads'
    """
    return dim.name if dim.within is None else f"{dim.name} per {dim.within.name.rpartition('.')[2]}"


def _same_rows(dim: Dim, chosen: Selections) -> bool:
    """Whether what is kept of a dim is chosen for the rows that its scores have."""
    return dim.within is not None or dim.name not in chosen or len(chosen[dim.name].index) == 1


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
