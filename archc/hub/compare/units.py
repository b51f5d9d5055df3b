"""From positions to units: what equal hashes along an axis say of the dims that it is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from archc.hub.compare.layout import Link, Piece
from archc.hub.compare.values import Ints
from archc.ir.selection import Selection

_MOST_OPEN = 4096  # equal units that are told apart by their order; a tensor of one value has more


def units_of(
    piece: Piece, old: Ints, new: Ints, known: Mapping[Link, Selection], *, fill: bool
) -> dict[Link, Selection] | None:
    """Selections of the dims of a piece whose positions have the hashes `old` and `new`; None where none fits."""
    flat = _positions(old, new)
    if flat is None:
        return None
    found: list[Ints] = []
    for m, link in enumerate(piece.links):
        index = known[link].index if link in known else _index(piece, m, flat)
        if index is None:
            return None
        found.append(index)
    if any((index < 0).any() for index in found) and not (fill and _fill(piece, found, old, new)):
        return None
    if any(len(np.unique(row)) != len(row) for index in found for row in index):
        return None
    if not np.array_equal(old[_old_positions(piece, found)], new):
        return None
    return {link: Selection(dim, index) for link, dim, index in zip(piece.links, piece.old, found, strict=True)}


def _positions(old: Ints, new: Ints) -> Ints | None:
    """For every new position the old one of the same hash, -1 where several have it; None where one has none."""
    values, first, count = np.unique(old, return_index=True, return_counts=True)
    at = np.minimum(np.searchsorted(values, new), len(values) - 1)
    if not np.array_equal(values[at], new):
        return None
    return np.where(count[at] == 1, first[at], -1)


def _index(piece: Piece, m: int, flat: Ints) -> Ints | None:
    """The index of the m-th dim that old positions say, -1 where they do not; None where they contradict themselves."""
    dim, outer = piece.new[m], piece.rows(m)
    if outer and len(outer) != len(dim.outer):
        return None
    unit = _by_unit(piece, m, np.where(flat < 0, -1, np.unravel_index(np.maximum(flat, 0), piece.old_shape)[m]))
    index: Ints = unit.max(axis=2)
    if not ((unit == index[:, :, None]) | (unit < 0)).all():
        return None
    return index if outer else np.tile(index, (max(dim.rows, 1), 1))


def _by_unit(piece: Piece, m: int, values: Ints) -> Ints:
    """Values of new positions by the m-th dim: [units of the dims that it lies within, its own, all others]."""
    outer = piece.rows(m)
    rest = [p for p in range(len(piece.new)) if p != m and p not in outer]
    grid = values.reshape(piece.new_shape).transpose([*outer, m, *rest])
    return grid.reshape(-1, piece.new_shape[m], math.prod(piece.new_shape[p] for p in rest))


def _old_positions(piece: Piece, found: Sequence[Ints]) -> Ints:
    """For every new position the old one."""
    at = np.indices(piece.new_shape).reshape(len(piece.new), -1)
    units = []
    for m, index in enumerate(found):
        row = np.zeros(at.shape[1], dtype=np.int64)
        for p in piece.rows(m):
            row = row * piece.new_shape[p] + at[p]
        units.append(index[row, at[m]])
    flat: Ints = np.ravel_multi_index(units, piece.old_shape)
    return flat


def _fill(piece: Piece, found: Sequence[Ints], old: Ints, new: Ints) -> bool:
    """Give every open unit the first old unit of its like that is left, where one dim alone has open units."""
    still_open = [m for m, index in enumerate(found) if (index < 0).any()]
    m = still_open[0]
    index, stride = found[m], math.prod(piece.old_shape[m + 1 :])
    if len(still_open) > 1 or (len(index) > 1 and not piece.rows(m)) or (index < 0).sum() > _MOST_OPEN:
        return False
    first = _by_unit(piece, m, _old_positions(piece, [*found[:m], np.zeros_like(index), *found[m + 1 :]]))
    wanted = _by_unit(piece, m, new)
    steps = stride * np.arange(piece.old_shape[m])
    for row, unit in np.argwhere(index < 0):
        like = (old[first[row, unit][:, None] + steps] == wanted[row, unit][:, None]).all(axis=0)
        left = np.setdiff1d(np.flatnonzero(like), index[row])
        if not len(left):
            return False
        index[row, unit] = left[0]
    return True
