"""What a report draws of a search beside its recorded candidates, as plain data.

Which choices decide a figure, how the budgets bind, how the best came about, and a sample of all that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.search.budgets import Budget, Measured, Objective, losses
from archc.search.choices import Choice, Option
from archc.search.space import Condition, Space
from archc.search.sweep import Ranks, Swept

SAMPLE = 5000  # candidates of the sample: a page of them is some 300 kB
DIGITS = 7  # of a figure in the sample
Floats = npt.NDArray[np.float64]


def report(
    space: Space,
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    swept: Swept,
    on_front: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The data of a report: `choices`, `objectives` and `budgets` in the search file's order, and by these `importance`
    (of choices for objectives, then budgets), `leaning` (of choices, of a whole space), `history` (of objectives) and
    the columns of `cloud`. `on_front` are positions among what was swept."""
    found = swept.found
    ranks = space.ranks(found.points)
    figures = np.concatenate([found.values, found.violations])
    return {
        "choices": [_choice(c, space.conditions.get(c.name)) for c in space.choices],
        "objectives": [_objective(o) for o in objectives],
        "budgets": list(_budgets(budgets, swept, on_front)),
        "importance": importance(figures, ranks, space.choices).tolist(),
        "by_chance": [chance(len(np.unique(column)), len(ranks)) for column in ranks.T],
        "leaning": _leaning(ranks, found.feasible, space.choices) if swept.whole and budgets else [],
        "history": [best_so_far(o, row, swept) for o, row in zip(objectives, found.values, strict=True)],
        "cloud": _cloud(found, ranks, swept.order),
    }


def importance(figures: Floats, ranks: Ranks, choices: Sequence[Choice]) -> Floats:
    """The share of each figure's variance that each choice explains alone, `[figures, choices]`, from 0 to 1.

    One-way analysis of variance (the correlation ratio, Pearson 1905): the variance of the means over candidates of one
    value, over the whole variance. On a whole space it is the first-order index of Sobol (1993). What choices do only
    together is in none of them, so that the shares of a figure may sum to less than 1.
    """
    made = np.zeros((len(figures), len(choices)))
    for i, figure in enumerate(figures):
        known = np.isfinite(figure)
        apart = figure[known] - figure[known].mean() if known.any() else figure[known]
        whole = float((apart**2).sum())
        for j, choice in enumerate(choices):
            at = ranks[known, j]
            counts = np.bincount(at, minlength=len(choice.values))
            sums = np.bincount(at, weights=apart, minlength=len(choice.values))
            made[i, j] = (sums**2 / np.maximum(counts, 1)).sum() / whole if whole > 0 else 0.0
    return made


def _leaning(ranks: Ranks, feasible: npt.NDArray[np.bool_], choices: Sequence[Choice]) -> list[dict[str, float]]:
    """What the budgets alone prefer: each choice's mean value within them, and in the whole space; of options, that
    have no order, nothing."""
    made = []
    for column, choice in zip(ranks.T, choices, strict=True):
        values = np.array(choice.values, dtype=np.float64)[column]
        ordered = not isinstance(choice, Option) and bool(feasible.any())
        made.append({"within": float(values[feasible].mean()), "whole": float(values.mean())} if ordered else {})
    return made


def chance(values: int, candidates: int) -> float:
    """The share that a choice of so many values explains, on average, of a figure that does not depend on it."""
    return (values - 1) / (candidates - 1) if candidates > 1 else 0.0


def best_so_far(objective: Objective, values: Floats, swept: Swept) -> list[list[float]]:
    """Where the best within the budgets became better: `[number of the proposal from 0, value]`, in order."""
    order = np.argsort(swept.order)
    order = order[swept.found.feasible[order] & np.isfinite(values[order])]
    loss = losses((objective,), values[None, order])[0]
    best = np.minimum.accumulate(loss)
    better = np.concatenate([[True], best[1:] < best[:-1]]) if len(order) else np.zeros(0, dtype=np.bool_)
    return [[int(swept.order[i]), float(values[i])] for i in order[better]]


def _choice(choice: Choice, condition: Condition | None) -> dict[str, Any]:
    """A choice; `shown` is what its values stand for, where they are no numbers, `when` where it means something."""
    made = {"name": choice.name, "values": list(choice.values), "base": choice.base}
    shown = [choice.shown(value) for value in choice.values]
    if shown != made["values"]:
        made["shown"] = shown
    return made | ({"when": [condition.on, list(condition.values)]} if condition else {})


def _objective(objective: Objective) -> dict[str, Any]:
    return {
        "name": objective.figure.name,
        "text": str(objective),
        "unit": objective.figure.unit,
        "sense": objective.sense,
    }


def _budgets(budgets: Sequence[Budget], swept: Swept, on_front: npt.NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Each budget: how many proposals broke it, how many no other, and what the front leaves of it, least to most."""
    for i, budget in enumerate(budgets):
        yield {
            "name": budget.figure.name,
            "text": str(budget),
            "unit": budget.figure.unit,
            "sense": budget.sense,
            "limit": budget.limit,
            "broken": int(swept.broken[i]),
            "alone": int(swept.alone[i]),
            "slack": sorted((-swept.found.violations[i, on_front]).tolist()),
        }


def _cloud(found: Measured, ranks: Ranks, order: npt.NDArray[np.int64]) -> dict[str, Any]:
    """A random sample of the candidates, by columns: choices as positions in their values, figures to 7 digits."""
    count = len(ranks)
    at = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False)) if count > SAMPLE else np.arange(count)
    return {
        "of": count,
        "order": order[at].tolist(),
        "ranks": ranks[at].T.tolist(),
        "values": [_short(row) for row in found.values[:, at]],
        "violations": [_short(row) for row in found.violations[:, at]],
    }


def _short(row: Floats) -> list[float | None]:
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in row]
