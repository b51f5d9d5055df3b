"""Rung 0: many candidates by arithmetic alone, in memory.

All of a small space, and of a large one a low-discrepancy sample (Sobol 1967; scipy's, scrambled by the seed). A
candidate that breaks a budget is moved until it keeps all of them, along the line to the smallest or the largest
candidate, as little as the steps of the space allow: budgets propose, they do not only reject. At the end the front's
neighbours are measured while that makes it better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archc.search.budgets import Budget, Measured, Objective, losses, measured, violations
from archc.search.figures import Meter
from archc.search.front import front
from archc.search.space import Space

Ranks = npt.NDArray[np.int64]  # [candidates, choices]: positions in each choice's values
STEPS = 32  # places that are tried on the way of a candidate into the budgets
_PAIRED = 12  # choices up to which neighbours go up in one and down in another too
BLOCK = 4096  # candidates that are measured at once


@dataclass(frozen=True)
class Swept:
    """What a sweep has found: distinct candidates, and how many of the proposals were within the budgets before any
    was moved, and after.

    `order` [candidates] counts proposals from 0: the first that came to each. Before any was moved, each budget was
    broken by `broken` [budgets] proposals, and by `alone` of them no other budget was. Beside the
    proposals, `refined` neighbours of the front were found within the budgets."""

    found: Measured
    proposed: int
    feasible_at_once: int
    feasible: int
    whole: bool
    order: npt.NDArray[np.int64]
    broken: npt.NDArray[np.int64]
    alone: npt.NDArray[np.int64]
    refined: int = 0


def sweep(
    space: Space,
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    *,
    candidates: int,
    seed: int,
    meter: Meter | None = None,
    tell: Callable[[Measured, int], None] = lambda block, at_once: None,
) -> Swept:
    """Propose and measure `candidates`, or all there are where they are no more.

    `tell` hears of each block as it is measured, and how many of its proposals were within the budgets at once."""
    meter = meter or Meter(space)
    whole = space.size <= candidates
    ranks = space.settled(_every(space) if whole else _sample(space, candidates, seed))
    parts: list[Ranks] = []
    found: list[Measured] = []
    broken, alone = np.zeros((2, len(budgets)), dtype=np.int64)
    at_once = after = 0
    for block in _blocks(ranks):
        over = violations(meter, budgets, space.at(block)) > 0
        broken += over.sum(axis=1)
        alone += over[:, over.sum(axis=0) == 1].sum(axis=1)
        outside = over.any(axis=0)
        at_once += int((~outside).sum())
        if not whole and outside.any():
            block = block.copy()
            block[outside], fits = projected(space, meter, budgets, block[outside])
            after += int(fits.sum())
        parts.append(block)
        found.append(measured(meter, budgets, objectives, space.at(block)))
        tell(found[-1], int((~outside).sum()))
    refined = 0
    if not whole:
        for block, made in _refined(space, meter, budgets, objectives, parts, found, candidates, seed):
            refined += len(block)
            parts.append(block)
            found.append(made)
            tell(made, 0)
    _, first = np.unique(np.concatenate(parts), axis=0, return_index=True)
    return Swept(_joined(found).at(first), len(ranks), at_once, at_once + after, whole, first, broken, alone, refined)


def _refined(
    space: Space,
    meter: Meter,
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    parts: Sequence[Ranks],
    found: Sequence[Measured],
    most: int,
    seed: int,
) -> Iterator[tuple[Ranks, Measured]]:
    """Neighbours of the front that are within the budgets, round by round, while some of them are on a new front.

    `parts` and `found` are what is there, and grow as the caller adds to them; `most` are measured in all."""
    rng = np.random.default_rng(seed)
    seen = {row.tobytes() for part in parts for row in part}
    here, at = _joined(found), np.concatenate(parts)
    on = _front(objectives, here)
    new = on
    while len(new) and most > 0:
        around = _neighbours(space, at[new])
        around = around[[i for i, row in enumerate(around) if row.tobytes() not in seen]]
        around = rng.permutation(around)[: min(most, 4 * BLOCK)]
        seen |= {row.tobytes() for row in around}
        most -= len(around)
        if not len(around):
            return
        made = measured(meter, budgets, objectives, space.at(around))
        fits = np.flatnonzero(made.feasible)
        yield around[fits], made.at(fits)
        # Only what is on the front can be on the next one.
        here, at = _joined([here.at(on), made.at(fits)]), np.concatenate([at[on], around[fits]])
        before, on = len(on), _front(objectives, here)
        new = on[on >= before]


def _front(objectives: Sequence[Objective], found: Measured) -> npt.NDArray[np.int64]:
    """What is on the front, of what is within the budgets."""
    fits = np.flatnonzero(found.feasible)
    made: npt.NDArray[np.int64] = fits[front(losses(objectives, found.values[:, fits]))]
    return made


def _neighbours(space: Space, ranks: Ranks) -> Ranks:
    """Candidates one step away in one choice, or up in one and down in another, each once."""
    count = len(space.choices)
    ones = np.eye(count, dtype=np.int64)
    steps = [ones, -ones]
    if count <= _PAIRED:
        steps += [(ones[:, None] - ones[None])[~np.eye(count, dtype=np.bool_)]]
    moved = (ranks[:, None] + np.concatenate(steps)[None]).reshape(-1, count)
    sizes = np.array([len(c.values) for c in space.choices])
    inside = ((moved >= 0) & (moved < sizes)).all(axis=1)
    return np.unique(space.settled(moved[inside]), axis=0)


def projected(
    space: Space, meter: Meter, budgets: Sequence[Budget], ranks: Ranks, *, itself: bool = False
) -> tuple[Ranks, npt.NDArray[np.bool_]]:
    """Candidates moved into the budgets where that is possible on a line to a corner, and which of them are there.

    With `itself` a candidate that is within them stays; else all are known to be outside."""
    corners = (np.zeros(len(space.choices)), np.array([len(c.values) - 1.0 for c in space.choices]))
    made, fits = space.settled(ranks.copy()), np.zeros(len(ranks), dtype=np.bool_)
    for corner in corners:
        for step in range(0 if itself else 1, STEPS + 1):
            left = np.flatnonzero(~fits)
            if not len(left):
                return made, fits
            moved = space.settled(np.rint(ranks[left] + (corner - ranks[left]) * step / STEPS).astype(np.int64))
            within = (violations(meter, budgets, space.at(moved)) <= 0).all(axis=0)
            made[left[within]] = moved[within]
            fits[left[within]] = True
    return made, fits


def _every(space: Space) -> Ranks:
    grids = np.meshgrid(*(np.arange(len(c.values)) for c in space.choices), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1)


def _sample(space: Space, count: int, seed: int) -> Ranks:
    from scipy.stats import qmc

    sizes = np.array([len(c.values) for c in space.choices])
    drawn = qmc.Sobol(len(sizes), scramble=True, rng=np.random.default_rng(seed)).random_base2(
        int(count - 1).bit_length()
    )
    ranks: Ranks = np.minimum((drawn[:count] * sizes).astype(np.int64), sizes - 1)
    ends = np.stack([np.zeros_like(sizes), sizes - 1])  # the smallest and the largest, which no sample has
    ranks[: len(ends)] = ends[:count]
    return ranks


def _blocks(ranks: Ranks) -> Iterator[Ranks]:
    for start in range(0, len(ranks), BLOCK):
        yield ranks[start : start + BLOCK]


def _joined(parts: Sequence[Measured]) -> Measured:
    points = {name: np.concatenate([p.points[name] for p in parts]) for name in parts[0].points}
    return Measured(
        points,
        np.concatenate([p.violations for p in parts], axis=1),
        np.concatenate([p.values for p in parts], axis=1),
    )
