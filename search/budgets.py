"""Budgets and objectives: what a candidate may cost, and what makes one better than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from archc.search.choices import Points
from archc.search.figures import Figure, Meter, Score, Values


@dataclass(frozen=True)
class Budget:
    """A hard limit on a figure: `memory.resident <= 19.66GiB`. `limit` is in the figure's base unit."""

    figure: Figure
    sense: Literal["<=", ">="]
    limit: float
    text: str = field(default="", compare=False)  # as it was written

    def violation(self, values: Values) -> Values:
        """By how much each value breaks it, in the figure's unit: 0 and below is within."""
        return values - self.limit if self.sense == "<=" else self.limit - values

    def __str__(self) -> str:
        return (
            self.text or f"{self.figure.name} {self.sense} {self.limit:g} {self.figure.unit} at {self.figure.setting}"
        )


@dataclass(frozen=True)
class Objective:
    """A figure to make small or large, or the score of a rung to make small."""

    figure: Figure | Score
    sense: Literal["minimize", "maximize"]
    text: str = field(default="", compare=False)  # as it was written

    def __str__(self) -> str:
        return self.text or f"{self.sense} {self.figure}"


@dataclass(frozen=True)
class Measured:
    """Points with their figures: `violations` [budgets, candidates] and `values` [objectives, candidates]."""

    points: Points
    violations: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Which points are within every budget."""
        within: npt.NDArray[np.bool_] = np.logical_and.reduce(self.violations <= 0, axis=0)
        return within

    def at(self, index: npt.NDArray[np.int64]) -> Measured:
        """Some of them."""
        points = {name: column[index] for name, column in self.points.items()}
        return Measured(points, self.violations[:, index], self.values[:, index])


def violations(meter: Meter, budgets: Sequence[Budget], points: Points) -> npt.NDArray[np.float64]:
    """By how much points break each budget, `[budgets, candidates]`."""
    count = len(next(iter(points.values())))
    found = [budget.violation(meter.take(budget.figure, points)) for budget in budgets]
    return np.stack(found) if found else np.zeros((0, count))


def measured(meter: Meter, budgets: Sequence[Budget], objectives: Sequence[Objective], points: Points) -> Measured:
    """Points with all their figures; scores that need a model are NaN."""
    values = [
        meter.take(o.figure, points) if isinstance(o.figure, Figure) else meter.score(o.figure.name, points)
        for o in objectives
    ]
    return Measured(points, violations(meter, budgets, points), np.stack(values))


def losses(objectives: Sequence[Objective], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values with every objective to be made small."""
    signs = np.array([1.0 if o.sense == "minimize" else -1.0 for o in objectives])
    made: npt.NDArray[np.float64] = values * signs[:, None]
    return made


def named(point: Points | Mapping[str, npt.NDArray[np.int64]], at: int) -> dict[str, int]:
    """One point of several."""
    return {name: int(column[at]) for name, column in point.items()}
