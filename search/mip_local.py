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
    at = problem.starts[:-1] + np.array(chosen)
    change, cost = (_changes(problem, values, at) for values in (problem.regrets[None], problem.rows))
    room = problem.room - problem.rows[:, at].sum(axis=1)
    swaps = _singles(problem, at, change, cost, room) + _pairs(problem, at, change, cost, room)
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


_Swaps: TypeAlias = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]  # scores [n], columns [n, 2]


def _changes(
    problem: Problem, values: npt.NDArray[np.float64], at: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.float64]]:
    """What each variant of each layer changes in some sums, `[sums, variants]` a layer."""
    parts = np.split(values, problem.starts[1:-1], axis=1)
    return [part - values[:, i : i + 1] for part, i in zip(parts, at, strict=True)]


def _singles(
    problem: Problem,
    at: npt.NDArray[np.int64],
    change: list[npt.NDArray[np.float64]],
    cost: list[npt.NDArray[np.float64]],
    room: npt.NDArray[np.float64],
) -> _Swaps:
    """Swaps of one layer."""
    found: _Swaps = []
    for layer, start in enumerate(problem.starts[:-1]):
        columns = start + np.arange(change[layer].shape[1])
        kept = (cost[layer] <= _loose(problem, room)[:, None]).all(axis=0) & (columns != at[layer])
        found.append((change[layer][0, kept], np.stack([columns[kept]] * 2, axis=1)))
    return found


def _pairs(
    problem: Problem,
    at: npt.NDArray[np.int64],
    change: list[npt.NDArray[np.float64]],
    cost: list[npt.NDArray[np.float64]],
    room: npt.NDArray[np.float64],
) -> _Swaps:
    """Swaps of two layers."""
    found: _Swaps = []
    loose = _loose(problem, room)[:, None, None]
    columns = [start + np.arange(c.shape[1]) for start, c in zip(problem.starts[:-1], change, strict=True)]
    for a, b in itertools.combinations(range(len(change)), 2):
        fits = (cost[a][:, :, None] + cost[b][:, None, :] <= loose).all(axis=0)
        fits &= (columns[a] != at[a])[:, None] & (columns[b] != at[b])[None]
        i, j = np.nonzero(fits)
        found.append((change[a][0, i] + change[b][0, j], np.stack([columns[a][i], columns[b][j]], axis=1)))
    return found


def _loose(problem: Problem, room: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The room with what rounding may take: what is within is held to the exact budgets afterwards."""
    made: npt.NDArray[np.float64] = room + _SLACK * problem.rows.max(axis=1, initial=0.0)
    return made
