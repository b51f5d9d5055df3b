"""Selections: which units of a Dim are kept, in which order, and what that means for any axis or tensor.

A permutation, a pruning, an elastic prefix and a shard are all Selections. Merging units is not: it averages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archc.ir.dims import Axis, Concat, Dim, Product
from archc.kernels.errors import GraphError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """Kept old indices of `dim`: `index` [rows, kept], one row per kept unit of the dims it lies within."""

    dim: Dim
    index: Index

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.shape[1] == 0:
            raise GraphError(f"a selection of `{self.dim}` needs rows of at least one index: got {self.index.shape}")
        if self.index.min() < 0 or self.index.max() >= self.dim.size:
            raise GraphError(f"a selection of `{self.dim}` must index 0..{self.dim.size - 1}: got {self.index.max()}")
        if any(len(np.unique(row)) != len(row) for row in self.index):
            raise GraphError(f"a selection of `{self.dim}` keeps an index twice")

    @property
    def kept(self) -> int:
        """The new size of the dim."""
        return int(self.index.shape[1])

    @property
    def uniform(self) -> bool:
        """Whether every outer unit keeps the same inner indices."""
        return bool((self.index == self.index[:1]).all())

    @property
    def is_identity(self) -> bool:
        """Whether everything is kept in its order."""
        return self.kept == self.dim.size and bool((self.index == np.arange(self.dim.size)).all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.dim == other.dim and np.array_equal(self.index, other.index)

    __hash__ = None  # type: ignore[assignment]


def keep(dim: Dim, indices: Sequence[int] | Sequence[Sequence[int]] | Index) -> Selection:
    """The Selection that keeps `indices` of `dim`; a flat list means the same for every outer unit."""
    index = np.asarray(indices, dtype=np.int64)
    if index.ndim == 1:
        index = np.broadcast_to(index, (max(dim.rows, 1), len(index)))
    return Selection(dim, np.ascontiguousarray(index))


class Selections(Mapping[str, Selection]):
    """Selections of several dims of one graph, by dim name. A dim not named is kept whole."""

    def __init__(self, chosen: Mapping[str, Selection] | Sequence[Selection] = ()) -> None:
        items = chosen.values() if isinstance(chosen, Mapping) else chosen
        self._by_name = {s.dim.name: s for s in items}
        for selection in self._by_name.values():
            self._check_rows(selection)

    def _check_rows(self, selection: Selection) -> None:
        rows = int(np.prod([self.size(d) for d in selection.dim.outer], dtype=np.int64))
        if len(selection.index) != rows:
            outer = ", ".join(f"`{d}`" for d in selection.dim.outer) or "nothing"
            raise GraphError(
                f"a selection of `{selection.dim}` needs one row per kept unit of {outer}:"
                f" got {len(selection.index)}, expected {rows}"
            )

    def __getitem__(self, name: str) -> Selection:
        return self._by_name[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def size(self, dim: Dim) -> int:
        """The size of `dim` after selection."""
        chosen = self._by_name.get(dim.name)
        return chosen.kept if chosen else dim.size

    def resized(self, dim: Dim) -> Dim:
        """The dim after selection, its outer dims too."""
        outer = self.resized(dim.within) if dim.within else None
        size = self.size(dim)
        if size == dim.size and outer == dim.within:
            return dim
        return Dim(dim.name, size, outer, dim.order, dim.multiple_of)

    def rows(self, dim: Dim) -> Index:
        """Kept old indices of `dim`, [kept outer units, kept]; old rows follow their kept outer unit."""
        chosen = self._by_name.get(dim.name)
        if chosen is not None:
            return chosen.index
        rows = int(np.prod([self.size(d) for d in dim.outer], dtype=np.int64))
        return np.broadcast_to(np.arange(dim.size, dtype=np.int64), (rows, dim.size))

    def touches(self, axis: Axis) -> bool:
        """Whether any dim of `axis` is selected."""
        return any(d.name in self._by_name for d in axis.dims())

    def then(self, second: Selections) -> Selections:
        """This selection followed by `second` (over the resized dims): again a selection of the old dims."""
        old = {s.dim.name: s.dim for s in self._by_name.values()}
        chosen = []
        for name in {**self._by_name, **second._by_name}:
            dim = old.get(name) or second[name].dim
            first, last = self.rows(dim), second.rows(self.resized(dim))
            outer = _unit_index(dim.outer, second, self)
            chosen.append(Selection(dim, np.take_along_axis(first[outer], last, axis=1)))
        return Selections(_outer_first(chosen))

    def expand(self, axes: Sequence[Axis]) -> Index:
        """Old flat index into the flattened `axes` for every position of the new layout, in layout order.

        `axes` are adjacent axes of one tensor: a dim may lie within a dim of an earlier axis among them.
        Raises GraphError when a dim's kept indices differ between outer units that these axes do not show.
        """
        flat, _ = self._expand(Product(tuple(axes)))
        return flat

    def _expand(self, axis: Axis) -> tuple[Index, int]:
        """(old flat index per new position, old size) of an axis."""
        if isinstance(axis, Concat):
            pieces, offset = [], 0
            for _, part in axis.parts:
                index, size = self._expand(part)
                pieces.append(index + offset)
                offset += size
            return np.concatenate(pieces), offset
        if isinstance(axis, Dim):
            axis = Product((axis,))
        return self._expand_product(axis)

    def _expand_product(self, axis: Product) -> tuple[Index, int]:
        index, total = np.zeros(1, dtype=np.int64), 1
        seen: dict[str, Index] = {}  # new unit of each dim so far, per position so far
        for part in axis.parts:
            if not isinstance(part, Dim):
                inner, size = self._expand(part)
                seen = {name: np.repeat(units, len(inner)) for name, units in seen.items()}
                index = (index[:, None] * size + inner[None, :]).ravel()
                total *= size
                continue
            rows = self.rows(part)
            kept = rows.shape[1]
            row = self._row_of(part, seen, len(index))
            index = (index[:, None] * part.size + rows[row]).ravel()
            seen = {name: np.repeat(units, kept) for name, units in seen.items()}
            seen[part.name] = np.tile(np.arange(kept), len(row))
            total *= part.size
        return index, total

    def _row_of(self, dim: Dim, seen: Mapping[str, Index], positions: int) -> Index:
        """Which row of `dim`'s selection each position so far stands under."""
        if not dim.outer or dim.name not in self._by_name:
            return np.zeros(positions, dtype=np.int64)
        if all(d.name in seen for d in dim.outer):
            row = np.zeros(positions, dtype=np.int64)
            for d in dim.outer:
                row = row * self.size(d) + seen[d.name]
            return row
        if not self._by_name[dim.name].uniform:
            raise GraphError(f"`{dim}` keeps different units per `{dim.within}`, which this axis does not show")
        return np.zeros(positions, dtype=np.int64)


def _unit_index(outer: Sequence[Dim], second: Selections, first: Selections) -> Index:
    """For every kept outer unit after `second`, its unit after `first` (flat over the outer chain)."""
    chain = [first.resized(d) for d in outer]
    if not chain:
        return np.zeros(1, dtype=np.int64)
    return second.expand(chain)


def _outer_first(chosen: Sequence[Selection]) -> list[Selection]:
    return sorted(chosen, key=lambda s: len(s.dim.outer))
