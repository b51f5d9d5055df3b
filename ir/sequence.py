"""Alignment of two sequences: which items of one stand for which of the other, at the least cost.

Dynamic programming in three steps. The costs of the cheapest ways to reach, and to leave, every cell (i items of the
one taken, j of the other) tell which moves are on some cheapest path. Among these paths that with the fewest runs of
gaps wins, then that whose pairs agree best in context, then that which pairs early. What all cheapest paths share is
certain; what they choose differently is kept, so that nobody says more than the sequences tell.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Costs are ints in units of 1/GAP. A pair of different kinds costs less than a drop and an addition, a pair of equal
# kinds less than one gap.
GAP, OTHER_KIND, MOST_CHANGED = 1024, 1536, 1000
# The most that two contexts disagree by.
MOST_CONTEXT = 6

Cell = tuple[int, int]
Pair = tuple[int | None, int | None]
Score = tuple[int, int]  # runs of gaps, disagreement of contexts
_PAIR, _DROP, _ADD = (1, 1), (1, 0), (0, 1)


@dataclass(frozen=True)
class Loose:
    """Items of a side (0 or 1) without partner of which only the number is certain: `items` were chosen of `among`."""

    side: int
    items: tuple[int, ...]
    among: tuple[int, ...]


@dataclass(frozen=True)
class Pairing:
    """Pairs of indices in order, None where an item has no partner."""

    pairs: tuple[Pair, ...]
    loose: tuple[Loose, ...] = ()


def pair_up(cost: Sequence[Sequence[int]], columns: int, context: Callable[[int, int], int]) -> Pairing:
    """The best pairing of `len(cost)` items with `columns` others, where pairing i with j costs `cost[i][j]`.

    `context(i, j)`, from 0 to MOST_CONTEXT, tells how badly the surroundings agree; it is asked only where costs leave
    a choice."""
    paths = _Paths(cost, columns)
    best = paths.best(context)
    return Pairing(tuple(best), tuple(paths.loose(best)))


class _Paths:
    """The cheapest paths from (0, 0) to (rows, columns)."""

    def __init__(self, cost: Sequence[Sequence[int]], columns: int) -> None:
        self.cost, self.end = cost, (len(cost), columns)
        self.reach = _reached(cost, columns)
        left = _reached([row[::-1] for row in reversed(cost)], columns)
        self.leave = [row[::-1] for row in reversed(left)]
        self.least = self.leave[0][0]

    @functools.cached_property
    def moves(self) -> dict[Cell, tuple[Cell, ...]]:
        """Every cell on a cheapest path, in order, with the moves that cheapest paths make from it."""
        return {
            (i, j): tuple(self._moves(i, j))
            for i, reached in enumerate(self.reach)
            for j, here in enumerate(reached)
            if here + self.leave[i][j] == self.least
        }

    def _moves(self, i: int, j: int) -> Iterator[Cell]:
        left, (rows, columns) = self.leave[i][j], self.end
        if i < rows and j < columns and self.cost[i][j] + self.leave[i + 1][j + 1] == left:
            yield _PAIR
        if i < rows and GAP + self.leave[i + 1][j] == left:
            yield _DROP
        if j < columns and GAP + self.leave[i][j + 1] == left:
            yield _ADD

    def best(self, context: Callable[[int, int], int]) -> list[Pair]:
        """The best of the cheapest paths."""
        choice = self._choices(context) if any(len(moves) > 1 for moves in self.moves.values()) else {}
        found: list[Pair] = []
        at, last = (0, 0), _PAIR
        while at != self.end:
            last = choice[at, last] if choice else self.moves[at][0]
            found.append((at[0] if last[0] else None, at[1] if last[1] else None))
            at = (at[0] + last[0], at[1] + last[1])
        return found

    def _choices(self, context: Callable[[int, int], int]) -> dict[tuple[Cell, Cell], Cell]:
        """The best move from a cell, by the move that led there: a gap after a gap of its kind begins no run."""
        best: dict[tuple[Cell, Cell], Score] = dict.fromkeys(((self.end, m) for m in (_PAIR, _DROP, _ADD)), (0, 0))
        choice: dict[tuple[Cell, Cell], Cell] = {}
        for at, moves in reversed(self.moves.items()):
            after = {move: self._after(at, move, best, context) for move in moves}
            for last in (_PAIR, _DROP, _ADD) if moves else ():
                scored = {m: (runs + (m not in (_PAIR, last)), off) for m, (runs, off) in after.items()}
                choice[at, last] = min(scored, key=scored.__getitem__)
                best[at, last] = scored[choice[at, last]]
        return choice

    def _after(
        self, at: Cell, move: Cell, best: dict[tuple[Cell, Cell], Score], context: Callable[[int, int], int]
    ) -> Score:
        runs, off = best[(at[0] + move[0], at[1] + move[1]), move]
        return (runs, off + context(*at)) if move == _PAIR else (runs, off)

    # -- what is certain -----------------------------------------------------------------------------------------------

    def loose(self, best: Sequence[Pair]) -> Iterator[Loose]:
        """Between cells that every cheapest path passes: gaps of the best one that could be elsewhere, and where."""
        paired = [{at[side] for at, moves in self.moves.items() if _PAIR in moves} for side in (0, 1)]
        chosen = [{pair[side] for pair in best if pair[1 - side] is None} for side in (0, 1)]
        for cells in self._segments() if any(map(set.__and__, chosen, paired)) else ():
            for side, gap in enumerate((_DROP, _ADD)):
                among = {at[side] for at in cells if gap in self.moves[at]} & paired[side]
                items = tuple(sorted(among & chosen[side]))
                if items:
                    yield Loose(side, items, tuple(sorted(among)))

    def _segments(self) -> Iterator[list[Cell]]:
        """The cells of the paths in order, cut at those through which all paths go."""
        ways, onward = {(0, 0): 1}, {self.end: 1}
        for at, moves in self.moves.items():
            for move in moves:
                to = (at[0] + move[0], at[1] + move[1])
                ways[to] = ways.get(to, 0) + ways[at]
        for at, moves in reversed(self.moves.items()):
            onward.setdefault(at, sum(onward[at[0] + m[0], at[1] + m[1]] for m in moves))
        cells: list[Cell] = []
        for at in self.moves:
            if cells and ways[at] * onward[at] == onward[0, 0]:
                yield cells
                cells = []
            cells.append(at)


def _reached(cost: Sequence[Sequence[int]], columns: int) -> list[list[int]]:
    """The least cost of reaching every cell."""
    row = [GAP * j for j in range(columns + 1)]
    rows = [row]
    for costs in cost:
        left = row[0] + GAP
        new = [left]
        for j in range(columns):
            left = min(row[j] + costs[j], row[j + 1] + GAP, left + GAP)
            new.append(left)
        rows.append(new)
        row = new
    return rows
