"""From positions to units: what equal hashes along an axis say of the dims that it is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from archc.hub.compare.layout import Piece
from archc.hub.compare.values import Ints
from archc.ir.selection import Selection


def units_of(
    piece: Piece, old: Ints, new: Ints, known: Mapping[str, Selection], *, fill: bool
) -> dict[str, Selection] | None:
    """Selections of the dims of a piece whose positions have the hashes `old` and `new`; None where none fits."""
    flat = _positions(old, new)
    if flat is None:
        return None
    found: list[Ints] = []
    for m, dim in enumerate(piece.new):
        index = known[dim.name].index if dim.name in known else _index(piece, m, flat)
        if index is None:
            return None
        found.append(index)
    if any((index < 0).any() for index in found) and not (fill and _fill(piece, found, old, new)):
        return None
    if any(len(np.unique(row)) != len(row) for index in found for row in index):
        return None
    if not np.array_equal(old[_old_positions(piece, found)], new):
        return None
    return {d.name: Selection(o, index) for o, d, index in zip(piece.old, piece.new, found, strict=True)}


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
    unit = np.where(flat < 0, -1, np.unravel_index(np.maximum(flat, 0), piece.old_shape)[m]).reshape(piece.new_shape)
    rest = [p for p in range(len(piece.new)) if p != m and p not in outer]
    unit = unit.transpose([*outer, m, *rest]).reshape(-1, dim.size, math.prod(piece.new_shape[p] for p in rest))
    index: Ints = unit.max(axis=2)
    if not ((unit == index[:, :, None]) | (unit < 0)).all():
        return None
    return index if outer else np.tile(index, (max(dim.rows, 1), 1))


def _old_positions(piece: Piece, found: Sequence[Ints]) -> Ints:
    """For every new position the old one."""
    at = np.indices(piece.new_shape).reshape(len(piece.new), -1)
    units = [index[_row(piece, m, at), at[m]] for m, index in enumerate(found)]
    flat: Ints = np.ravel_multi_index(units, piece.old_shape)
    return flat


def _row(piece: Piece, m: int, at: Ints) -> Ints:
    """The row of the m-th dim's selection that each of the positions `at` stands under."""
    row = np.zeros(at.shape[1], dtype=np.int64)
    for p in piece.rows(m):
        row = row * piece.new_shape[p] + at[p]
    return row


def _fill(piece: Piece, found: Sequence[Ints], old: Ints, new: Ints) -> bool:
    """Give every open unit the first old unit of its like that is left, where one dim alone has open units."""
    still_open = [m for m, index in enumerate(found) if (index < 0).any()]
    m = still_open[0]
    if len(still_open) > 1 or (len(found[m]) > 1 and not piece.rows(m)):
        return False
    index, stride = found[m], math.prod(piece.old_shape[m + 1 :])
    first = _old_positions(piece, [*found[:m], np.zeros_like(index), *found[m + 1 :]])
    at = np.indices(piece.new_shape).reshape(len(piece.new), -1)
    row_at = _row(piece, m, at)
    for row, unit in np.argwhere(index < 0):
        here = np.flatnonzero((row_at == row) & (at[m] == unit))
        like = old[first[here][:, None] + stride * np.arange(piece.old_shape[m])] == new[here][:, None]
        left = np.setdiff1d(np.flatnonzero(like.all(axis=0)), index[row])
        if not len(left):
            return False
        index[row, unit] = left[0]
    return True
