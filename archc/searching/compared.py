"""Models that a search is compared with: released ones, say. Their figures, and what of the search beats them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archc.ir.graph import Graph
from archc.resolve import load
from archc.search.budgets import Budget, Objective, losses
from archc.search.figures import Figure, Meter
from archc.search.space import Space


@dataclass(frozen=True)
class Compared:
    """A model beside a search: values of the objectives (NaN for scores, which it has none of), by how much it breaks
    the budgets, and the candidates that are as good in every figure and better in one."""

    name: str
    values: tuple[float, ...]
    violations: tuple[float, ...]
    beaten_by: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "values": list(self.values),
            "violations": list(self.violations),
            "beaten_by": list(self.beaten_by),
        }


def compared(
    models: Sequence[str],
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    names: Sequence[str],
    values: Sequence[Sequence[float]],
) -> tuple[Compared, ...]:
    """Models beside candidates, by their `names` and `values` of the objectives."""
    return tuple(_compared(load(model), budgets, objectives, names, values) for model in models)


def _compared(
    graph: Graph,
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    names: Sequence[str],
    values: Sequence[Sequence[float]],
) -> Compared:
    meter = Meter(Space(graph, ()))
    own = [float(meter.take(o.figure, {})[0]) if isinstance(o.figure, Figure) else np.nan for o in objectives]
    over = [float(budget.violation(meter.take(budget.figure, {}))[0]) for budget in budgets]
    figures = [i for i, value in enumerate(own) if np.isfinite(value)]
    mine = losses(objectives, np.array(own)[:, None])[figures]
    theirs = losses(objectives, np.array(values, dtype=np.float64).T)[figures]
    better = np.atleast_1d((theirs <= mine).all(axis=0) & (theirs < mine).any(axis=0))
    beaten_by = tuple(name for name, is_better in zip(names, better.tolist(), strict=True) if is_better)
    return Compared(graph.name, tuple(own), tuple(over), beaten_by)
