"""Repeated runs of a sequence, folded: `M - M - M - * -` is `3 x [M -] * -`.

    >>> fold_text("M-M-M-*-", fold("M-M-M-*-"))
    '3 x [M -] * -'

The one place that finds repeats: the terminal, the page and the pictures draw what `fold` returns.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """`times` rounds of `length` items that begin at `start`; `inner` is one round folded, empty for a single item."""

    start: int
    length: int
    times: int
    inner: tuple[Fold, ...] = ()

    @property
    def total(self) -> int:
        """How many items it covers."""
        return self.length * self.times


def fold(keys: Sequence[Hashable]) -> tuple[Fold, ...]:
    """The shortest description of a sequence by repeats: equal items have equal keys."""
    return _Folder(keys[0]).folded(tuple(keys), 0)[1] if keys else ()


def fold_text(names: Sequence[str], folds: Sequence[Fold]) -> str:
    """The folds in words, each item by its name: `3 x [M -] * -`."""
    return " ".join(_text(names, one) for one in folds)


def _text(names: Sequence[str], one: Fold) -> str:
    inner = fold_text(names, one.inner) if one.inner else names[one.start]
    if one.times == 1:
        return inner
    return f"{one.times} x {f'[{inner}]' if one.inner else inner}"


# What reading costs: a lone item, a repeat, a bracket, and a round that does not begin as the whole sequence does
# (people read `3 x [M -] M`, not `M 3 x [- M]`).
_ITEM, _REPEAT, _BRACKET, _OFF_BEAT = 1, 1, 1, 3


class _Folder:
    """Folds a sequence by dynamic programming over where it is cut; rounds are folded once each."""

    def __init__(self, first: Hashable) -> None:
        self.first = first
        self.known: dict[tuple[Hashable, ...], tuple[int, tuple[Fold, ...]]] = {}

    def folded(self, keys: tuple[Hashable, ...], start: int) -> tuple[int, tuple[Fold, ...]]:
        """The cost of the shortest description of `keys`, and that description with its items counted from `start`."""
        if keys not in self.known:
            self.known[keys] = self._fold(keys)
        cost, folds = self.known[keys]
        return cost, tuple(_moved(one, start) for one in folds)

    def _fold(self, keys: tuple[Hashable, ...]) -> tuple[int, tuple[Fold, ...]]:
        best = [(0, 0, Fold(0, 0, 0))] * (len(keys) + 1)  # cost, next cut, first part
        for i in reversed(range(len(keys))):
            options = [(_ITEM + best[i + 1][0], i + 1, Fold(i, 1, 1))]
            for length, most in _rounds(keys, i):
                cost, inner = self.round(keys[i : i + length], i)
                for times in range(2, most + 1):
                    end = i + length * times
                    options.append((cost + best[end][0], end, Fold(i, length, times, inner)))
            # At equal cost the repeat that covers most.
            best[i] = min(options, key=lambda option: (option[0], -option[2].total if option[2].total > 2 else 0))
        parts, at = [], 0
        while at < len(keys):
            _, at, part = best[at]
            parts.append(part)
        return best[0][0], tuple(parts)

    def round(self, keys: tuple[Hashable, ...], start: int) -> tuple[int, tuple[Fold, ...]]:
        """The cost of a repeat of these items, and one round of it folded."""
        if len(keys) == 1:
            return _REPEAT + _ITEM, ()
        cost, inner = self.folded(keys, start)
        return _REPEAT + _BRACKET + cost + (_OFF_BEAT if keys[0] != self.first else 0), inner


def _rounds(keys: Sequence[Hashable], start: int) -> list[tuple[int, int]]:
    """Lengths of rounds that repeat from `start` on, and how often; rounds that are repeats themselves left out."""
    found: list[tuple[int, int]] = []
    for length in range(1, (len(keys) - start) // 2 + 1):
        if any(length % shorter == 0 and shorter * most >= length for shorter, most in found):
            continue
        end = start + length
        while end < len(keys) and keys[end] == keys[end - length]:
            end += 1
        if end >= start + 2 * length:
            found.append((length, (end - start) // length))
    return found


def _moved(one: Fold, by: int) -> Fold:
    return Fold(one.start + by, one.length, one.times, tuple(_moved(inner, by) for inner in one.inner))
