"""How the axes of two parameters that may stem from one another are laid out of dims, side by side."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archc.ir.dims import Axis, Concat, Dim, Product

Link = tuple[str, str]  # names of an old dim and of the new one that may be cut from it


@dataclass(frozen=True)
class Piece:
    """Plain dims, flattened, at a stretch of an axis: as the old parameter has them, and the new one."""

    old: tuple[Dim, ...]
    new: tuple[Dim, ...]
    old_at: int
    new_at: int

    @functools.cached_property
    def links(self) -> tuple[Link, ...]:
        """Its dims by name; pieces with the same are laid out of the same dims."""
        return tuple((old.name, new.name) for old, new in zip(self.old, self.new, strict=True))

    @functools.cached_property
    def old_shape(self) -> tuple[int, ...]:
        return tuple(d.size for d in self.old)

    @functools.cached_property
    def new_shape(self) -> tuple[int, ...]:
        return tuple(d.size for d in self.new)

    def rows(self, m: int) -> list[int]:
        """Which of the dims the m-th lies within."""
        return [p for d in self.new[m].outer for p, other in enumerate(self.new) if other == d]


@dataclass(frozen=True)
class Slot:
    """Adjacent axes that are indexed together, as one axis of `size`s, and its pieces."""

    axes: tuple[tuple[Axis, ...], tuple[Axis, ...]]
    pieces: tuple[Piece, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """Positions of the old parameter and of the new one."""
        old, new = (math.prod(axis.size for axis in axes) for axes in self.axes)
        return old, new

    @property
    def dims(self) -> Iterator[tuple[Link, Dim, Dim]]:
        """Every dim: its link, the old one and the new one."""
        return (dims for piece in self.pieces for dims in zip(piece.links, piece.old, piece.new, strict=True))


def slots_of(old: Sequence[Axis], new: Sequence[Axis]) -> tuple[Slot, ...]:
    """The axes of a parameter in groups that are indexed together; none where the two are laid out differently."""
    if len(old) != len(new):
        return ()
    slots: list[Slot] = []
    for start, stop in _together(new):
        axes = tuple(old[start:stop]), tuple(new[start:stop])
        pieces = _pieces(Product(axes[0]), Product(axes[1]))
        if pieces is None:
            return ()
        slots.append(Slot(axes, tuple(pieces)))
    return tuple(slots)


def _together(axes: Sequence[Axis]) -> Iterator[tuple[int, int]]:
    """Runs of adjacent axes: a dim is indexed with the one that it lies within."""
    start = 0
    for stop in range(1, len(axes) + 1):
        before = {d for axis in axes[start:stop] for d in axis.dims()}
        if stop == len(axes) or not any(before & set(d.outer) for d in axes[stop].dims()):
            yield start, stop
            start = stop


def _pieces(old: Axis, new: Axis, old_at: int = 0, new_at: int = 0) -> list[Piece] | None:
    """The pieces of an axis; None where the two are not laid out alike, or a concatenation is part of a product."""
    if isinstance(old, Product) and isinstance(new, Product) and len(old.parts) == len(new.parts) == 1:
        return _pieces(old.parts[0], new.parts[0], old_at, new_at)
    if not isinstance(old, Concat) or not isinstance(new, Concat):
        flat = _flat(old), _flat(new)
        if flat[0] is None or flat[1] is None or len(flat[0]) != len(flat[1]):
            return None
        return [Piece(flat[0], flat[1], old_at, new_at)]
    if [name for name, _ in old.parts] != [name for name, _ in new.parts]:
        return None
    found: list[Piece] = []
    for (_, ours), (_, theirs) in zip(old.parts, new.parts, strict=True):
        pieces = _pieces(ours, theirs, old_at, new_at)
        if pieces is None:
            return None
        found += pieces
        old_at, new_at = old_at + ours.size, new_at + theirs.size
    return found


def _flat(axis: Axis) -> tuple[Dim, ...] | None:
    if isinstance(axis, Dim):
        return (axis,)
    if isinstance(axis, Concat):
        return None
    parts = [_flat(part) for part in axis.parts]
    return None if None in parts else tuple(d for part in parts if part is not None for d in part)
