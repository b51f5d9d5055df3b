"""Which units of a model's dims another one keeps, found in the values of its parameters.

Positions along an axis are told apart by a hash of all that lies at them. Where every other axis of a parameter is
known, equal hashes say which old position each new one was, and the layout of the axis in dims says what that means
for each dim: a position that contradicts it rules the match out. Positions that are equal in every parameter (dead
units) cannot be told apart and need not be: any choice among them gives the same model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from archc.hub.compare.layout import Link, Piece, Slot, slots_of
from archc.hub.compare.units import units_of
from archc.hub.compare.values import Ints, common_dtype, equal, hashes
from archc.ir.dims import Dim
from archc.ir.op import Param
from archc.ir.selection import Selection, Selections

_CORNER = 8


@dataclass(frozen=True, eq=False)
class Pair:
    """A parameter and the old one that it may stem from (by key `source`), with their values."""

    key: str
    source: str
    params: tuple[Param, Param]
    old: Tensor
    new: Tensor

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The axes in groups that are indexed together; none where the two are laid out differently."""
        return slots_of(self.params[0].axes, self.params[1].axes)

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """The type in which values are compared."""
        return common_dtype(self.old.dtype, self.new.dtype)

    @functools.cached_property
    def same(self) -> bool:
        """Whether the values are the same, unit by unit."""
        return equal(self.old, self.new, self.dtype)


@dataclass(frozen=True)
class _Place:
    """One of the pieces of one slot of a pair."""

    pair: Pair
    slot: int
    piece: Piece


class Solver:
    """Finds the Selections of the dims of one group of parameters after the other; `known` has them by link.

    Dims that were taken to be as they were, for want of anything that says so, are forgotten by `forget`."""

    def __init__(self) -> None:
        self.known: dict[Link, Selection] = {}
        self._assumed: set[Link] = set()
        self._cache: dict[tuple[str, int], tuple[Ints, Ints]] = {}

    def solve(self, pairs: Sequence[Pair]) -> None:
        """Find what the values of `pairs` tell, the most certain first."""
        self._cache.clear()
        groups: dict[tuple[Link, ...], list[_Place]] = {}
        for pair in pairs:
            for i, slot in enumerate(pair.slots):
                self._settle(pair, i, slot)
                for piece in slot.pieces:
                    groups.setdefault(piece.links, []).append(_Place(pair, i, piece))
        if all(pair.same for pair in pairs):
            return
        while self._match(groups.values()) or self._match(groups.values(), fill=True) or self._assume(pairs):
            pass

    def forget(self) -> None:
        """Forget what was assumed."""
        self.known = {link: chosen for link, chosen in self.known.items() if link not in self._assumed}
        self._assumed.clear()

    def cut(self, pair: Pair) -> tuple[str, ...]:
        """The dims of a parameter whose units are not what they were."""
        links = dict.fromkeys(link for slot in pair.slots for link, *_ in slot.dims)
        return tuple(link[1] for link in links if link in self.known and not self.known[link].is_identity)

    def selected(self, pair: Pair) -> Tensor | None:
        """The old parameter with the known units; None where something about them is not known."""
        if not pair.slots or not all(self._knows(slot) for slot in pair.slots):
            return None
        return self._taken(pair, -1).reshape(pair.new.shape)

    def _knows(self, slot: Slot) -> bool:
        return all(link in self.known for link, *_ in slot.dims)

    def _settle(self, pair: Pair, at: int, slot: Slot) -> None:
        """Units are what they were along a fixed dim, and along any of a matrix that is the same and varies there."""
        matrix = pair.same and pair.new.ndim > 1 and _varies(pair.new.reshape([s.sizes[1] for s in pair.slots]), at)
        for link, old, new in slot.dims:
            if link not in self.known and _alike(old, new) and (matrix or old.order == "fixed"):
                self.known[link] = _whole(old, new)

    def _assume(self, pairs: Sequence[Pair]) -> bool:
        """Take one unknown dim of one size to be as it was, so that others can be found beside it."""
        for pair in pairs:
            for link, old, new in (dims for slot in pair.slots for dims in slot.dims):
                if link not in self.known and _alike(old, new):
                    self.known[link] = _whole(old, new)
                    self._assumed.add(link)
                    return True
        return False

    def _match(self, groups: Collection[Sequence[_Place]], *, fill: bool = False) -> bool:
        """Whether one more piece was matched; with `fill` one with positions that are equal in all parameters."""
        for places in groups:
            piece = places[0].piece
            if all(link in self.known for link in piece.links):
                continue
            for old, new in self._told(places, alone=not fill):
                found = units_of(piece, old, new, self.known, fill=fill)
                if found is not None:
                    self.known |= found
                    return True
        return False

    def _told(self, places: Sequence[_Place], *, alone: bool) -> Iterator[tuple[Ints, Ints]]:
        """Hashes of the positions of a piece: over all its places that can be read, then over each alone."""
        ready = [place for place in places if self._ready(place)]
        told = [self._hashed(place, 2 * i + 1) for i, place in enumerate(ready)]
        if told:
            yield np.sum([old for old, _ in told], axis=0), np.sum([new for _, new in told], axis=0)
        if alone and len(told) > 1:
            yield from (told[i] for i in sorted(range(len(ready)), key=lambda i: -ready[i].pair.new.numel()))

    def _ready(self, place: _Place) -> bool:
        return all(self._knows(slot) for i, slot in enumerate(place.pair.slots) if i != place.slot)

    def _hashed(self, place: _Place, factor: int) -> tuple[Ints, Ints]:
        key = place.pair.key, place.slot
        if key not in self._cache:
            self._cache[key] = self._hash(place.pair, place.slot)
        old, new = self._cache[key]
        piece = place.piece
        ours = old[piece.old_at : piece.old_at + math.prod(piece.old_shape)]
        theirs = new[piece.new_at : piece.new_at + math.prod(piece.new_shape)]
        return ours * factor, theirs * factor

    def _hash(self, pair: Pair, slot: int) -> tuple[Ints, Ints]:
        old, new = self._taken(pair, slot), pair.new.reshape([s.sizes[1] for s in pair.slots])
        seed = f"{pair.key}:{slot}"
        return self._rows(old, slot, pair, seed), self._rows(new, slot, pair, seed)

    def _rows(self, x: Tensor, slot: int, pair: Pair, seed: str) -> Ints:
        return hashes(x.movedim(slot, 0).reshape(x.shape[slot], -1), pair.dtype, seed)

    def _taken(self, pair: Pair, but: int) -> Tensor:
        """The old parameter, one axis a slot, with the known units of every slot but one."""
        x = pair.old.reshape([s.sizes[0] for s in pair.slots])
        for i, slot in enumerate(pair.slots):
            chosen = [self.known[link] for link, *_ in slot.dims if i != but]
            if not all(selection.is_identity for selection in chosen):
                x = x.index_select(i, torch.from_numpy(_selections(chosen).expand(slot.axes[0])))
        return x


def _selections(chosen: Sequence[Selection]) -> Selections:
    return Selections({s.dim.name: s for s in chosen})


def _varies(x: Tensor, axis: int) -> bool:
    """Whether the units along an axis are told apart by a corner of the others."""
    for other in range(x.ndim):
        x = x if other == axis else x.narrow(other, 0, min(_CORNER, x.shape[other]))
    return bool((x != x.narrow(axis, 0, 1)).any())


def _alike(old: Dim, new: Dim) -> bool:
    return (old.size, [d.size for d in old.outer]) == (new.size, [d.size for d in new.outer])


def _whole(old: Dim, new: Dim) -> Selection:
    return Selection(old, np.tile(np.arange(old.size, dtype=np.int64), (max(new.rows, 1), 1)))
