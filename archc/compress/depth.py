"""Which layers of a deep model stay, so that a shallower one is left: what the order of layers tells of it.

A layer may stand for another where passes lead from the one to the other. Each layer of the shallower model stands
for one of the deeper, in order; where several choices do, none is preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Fits = Callable[[int, int], bool]


@dataclass(frozen=True)
class Choice:
    """Ways to find `there` layers among `had`: the one that keeps the earliest, that with the latest, and the positions
    that one or another does without."""

    earliest: tuple[int, ...]
    latest: tuple[int, ...]
    may_go: tuple[int, ...]

    @property
    def certain(self) -> bool:
        """Whether there is one way only."""
        return self.earliest == self.latest


def find_layers(had: int, there: int, fits: Fits) -> Choice | None:
    """The choice of layers that stay, `fits(i, j)` telling whether layer i of the deeper can be layer j of the other.

    None where there is no way."""
    earliest = _greedy(had, there, fits)
    if earliest is None:
        return None
    mirrored = _greedy(had, there, lambda i, j: fits(had - 1 - i, there - 1 - j))
    latest = tuple(had - 1 - i for i in reversed(mirrored or ()))
    # Without i, as many of the first as stand before it and as many of the last as stand after it must be all.
    before = [sum(kept < i for kept in earliest) for i in range(had)]
    after = [sum(kept > i for kept in latest) for i in range(had)]
    return Choice(earliest, latest, tuple(i for i in range(had) if before[i] + after[i] >= there))


def _greedy(had: int, there: int, fits: Fits) -> tuple[int, ...] | None:
    found: list[int] = []
    for i in range(had):
        if len(found) < there and fits(i, len(found)):
            found.append(i)
    return tuple(found) if len(found) == there else None
