"""Scores in few numbers: a row for each estimator and axis, an axis being all dims of one role and kind of block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from archc.ir.graph import Graph
from archc.passes.scores import Scores, Values


@dataclass(frozen=True)
class Axis:
    """The dims of one role, by name, and their scores by one estimator; `kind` where the model is known."""

    by: str
    role: str
    kind: str
    dims: Mapping[str, Values]

    @property
    def name(self) -> str:
        """`mlp d_ff`, or the role alone; `mamba2 head_dim, each` in rows of the dim that could have its own."""
        role, per, _ = self.role.partition(" per ")
        return " ".join(filter(None, (self.kind, f"{role}, each" if per else role)))

    @property
    def sizes(self) -> str:
        """Units of a dim: `128`, or `96 to 128`."""
        found = sorted({values.shape[1] for values in self.dims.values()})
        return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"

    @property
    def values(self) -> Values:
        """The scores of all units."""
        return np.concatenate([values.ravel() for values in self.dims.values()])

    @property
    def lowest_quarter(self) -> float | None:
        """What part of all scores the lowest quarter of each row's units has: little where pruning costs little.

        None where a row has fewer than four."""
        rows = [np.sort(row) for values in self.dims.values() for row in values]
        if any(len(row) < 4 for row in rows):
            return None
        total = sum(float(row.sum()) for row in rows)
        return sum(float(row[: len(row) // 4].sum()) for row in rows) / total if total else 0.0


def axes(scores: Scores, graph: Graph | None = None) -> Iterator[Axis]:
    """Every estimator's axes."""
    kinds = _kinds(graph) if graph is not None else {}
    for by, dims in scores.units.items():
        found: dict[tuple[str, str], dict[str, Values]] = {}
        for name, values in dims.items():
            kind = kinds.get(name.partition(" ")[0], "")  # `... per heads_per_group`: channels head by head
            found.setdefault((kind, name.rpartition(".")[2]), {})[name] = values
        for (kind, role), members in found.items():
            yield Axis(by, role, kind, members)


def _kinds(graph: Graph) -> dict[str, str]:
    """The kind of block that each dim is of, none for one that several kinds share."""
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        for dim in node.op.dims.values():
            found.setdefault(dim.name, set()).add(node.op.kind)
    return {name: next(iter(kinds)) for name, kinds in found.items() if len(kinds) == 1}
