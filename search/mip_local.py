"""Local search around a combination of variants: swaps of one or two layers that keep the budgets.

A sum of scores is a prediction; what the neighbours of its optimum really lose may be less. They are measured in the
order in which the prediction has them, and the first that is better is gone on from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from archc.search.mip import Chosen, Problem

Loss: TypeAlias = Callable[[Chosen], float]
_SLACK = 1e-9  # of the largest cost: neighbours so near a budget are held to it exactly


@dataclass(frozen=True)
class Improved:
    """Where a local search has come to, what is lost there, and every combination that it measured, in order."""

    chosen: Chosen
    loss: float
    measured: tuple[tuple[Chosen, float], ...]


def improve(problem: Problem, start: Chosen, *, loss: Loss | None = None, evaluations: int = 1000) -> Improved:
    """Go from a combination to better neighbours until none is better, or `evaluations` are spent, the start's among
    them. `loss` measures a combination; without it the sum of scores counts. One that is no number is never better."""
    measure, known = loss or problem.score, dict[Chosen, float]()

    def lost(chosen: Chosen) -> float:
        if chosen not in known:
            known[chosen] = measure(chosen)
        return known[chosen]

    at = start
    while True:
        here = lost(at)
        for other in neighbours(problem, at, most=evaluations):
            if other not in known and len(known) >= evaluations:
                return Improved(at, here, tuple(known.items()))
            if lost(other) < here or (math.isnan(here) and not math.isnan(lost(other))):
                at = other
                break
        else:
            return Improved(at, here, tuple(known.items()))


def neighbours(problem: Problem, chosen: Chosen, *, most: int) -> Iterator[Chosen]:
    """Combinations within the budgets that differ in one layer or two, up to `most`, the best sum of scores first."""
    swaps = list(_Around.of(problem, chosen).swaps())
    if not swaps:
        return
    scores = np.concatenate([score for score, _ in swaps])
    columns = np.concatenate([pair for _, pair in swaps])
    first = np.argpartition(scores, most - 1)[:most] if most < len(scores) else np.arange(len(scores))
    layer_of = np.searchsorted(problem.starts, np.arange(problem.starts[-1]), side="right") - 1
    for i in first[np.argsort(scores[first], kind="stable")]:
        made = list(chosen)
        for column in columns[i]:
            made[layer_of[column]] = int(column - problem.starts[layer_of[column]])
        if problem.fits(tuple(made)):
            yield tuple(made)


Floats: TypeAlias = npt.NDArray[np.float64]
Columns: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Around:
    """What a combination's neighbours change: by layer, of each variant, the score `[variants]` and the costs
    `[budgets, variants]`, and its columns `[variants]`, the chosen one among them at `at`.

    `room` [budgets] is what the combination leaves, with what rounding may take: what is within is held to the exact
    budgets afterwards."""

    scores: list[Floats]
    costs: list[Floats]
    columns: list[Columns]
    at: Columns
    room: Floats

    @classmethod
    def of(cls, problem: Problem, chosen: Chosen) -> _Around:
        """The neighbourhood of a combination."""
        at = problem.starts[:-1] + np.array(chosen)
        scores, costs = (
            [part - values[:, i : i + 1] for part, i in zip(_by_layer(problem, values), at, strict=True)]
            for values in (problem.regrets[None], problem.rows)
        )
        columns = [start + np.arange(score.shape[1]) for start, score in zip(problem.starts[:-1], scores, strict=True)]
        room = problem.room - problem.rows[:, at].sum(axis=1) + _SLACK * problem.rows.max(axis=1, initial=0.0)
        return cls([score[0] for score in scores], costs, columns, at, room)

    def swaps(self) -> Iterator[tuple[Floats, Columns]]:
        """Scores [n] and columns [n, 2] of swaps of one layer, and of two."""
        for i, score in enumerate(self.scores):
            fits = (self.costs[i] <= self.room[:, None]).all(axis=0) & (self.columns[i] != self.at[i])
            yield score[fits], np.stack([self.columns[i][fits]] * 2, axis=1)
        for a, b in itertools.combinations(range(len(self.scores)), 2):
            costs = self.costs[a][:, :, None] + self.costs[b][:, None, :]
            fits = (costs <= self.room[:, None, None]).all(axis=0)
            fits &= (self.columns[a] != self.at[a])[:, None] & (self.columns[b] != self.at[b])[None]
            one, other = np.nonzero(fits)
            pairs = np.stack([self.columns[a][one], self.columns[b][other]], axis=1)
            yield self.scores[a][one] + self.scores[b][other], pairs


def _by_layer(problem: Problem, values: Floats) -> list[Floats]:
    return np.split(values, problem.starts[1:-1], axis=1)
