"""Entries of a family's tensor table: each says once how archc's weights and foreign tensors correspond.

Both directions are WeightMap expressions derived from the same fields, so import and export cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from archc.ir.weight_expr import Concat, Old, Reshape, Stack, Take, Transpose, WeightExpr

Shape: TypeAlias = tuple[int, ...]
Exprs: TypeAlias = dict[str, WeightExpr]


class Entry(Protocol):
    """A correspondence between some of archc's weights and some foreign tensors."""

    def to_archc(self) -> Exprs:
        """archc's weights as expressions over the foreign tensors."""
        ...

    def to_foreign(self) -> Exprs:
        """The foreign tensors as expressions over archc's weights."""
        ...


@dataclass(frozen=True)
class Same:
    """One tensor under two names."""

    ours: str
    theirs: str

    def to_archc(self) -> Exprs:
        return {self.ours: Old(self.theirs)}

    def to_foreign(self) -> Exprs:
        return {self.theirs: Old(self.ours)}


@dataclass(frozen=True)
class Reshaped:
    """The same elements in the same order under another shape (a convolution's [C, 1, K] for our [C, K])."""

    ours: str
    theirs: str
    our_shape: Shape
    their_shape: Shape

    def to_archc(self) -> Exprs:
        return {self.ours: Reshape(Old(self.theirs), self.our_shape)}

    def to_foreign(self) -> Exprs:
        return {self.theirs: Reshape(Old(self.ours), self.their_shape)}


@dataclass(frozen=True)
class Turned:
    """The last two of three axes change places."""

    ours: str
    theirs: str

    def to_archc(self) -> Exprs:
        return {self.ours: _turn(Old(self.theirs))}

    def to_foreign(self) -> Exprs:
        return {self.theirs: _turn(Old(self.ours))}


@dataclass(frozen=True)
class Each:
    """Our [E, a, b] is E foreign tensors [a, b], or [b, a] when `turned`; `{e}` in `theirs` counts them."""

    ours: str
    theirs: str
    shape: Shape
    turned: bool = False

    def _names(self) -> list[str]:
        return [self.theirs.replace("{e}", str(e)) for e in range(self.shape[0])]

    def to_archc(self) -> Exprs:
        parts = [Old(name) for name in self._names()]
        return {self.ours: Stack(tuple(Transpose(p, (1, 0)) if self.turned else p for p in parts), 0)}

    def to_foreign(self) -> Exprs:
        return {name: self._one(e) for e, name in enumerate(self._names())}

    def _one(self, e: int) -> WeightExpr:
        one = Reshape(Take(Old(self.ours), 0, [e]), self.shape[1:])
        return Transpose(one, (1, 0)) if self.turned else one


@dataclass(frozen=True)
class Woven:
    """Several of our tensors are one foreign tensor: `size` rows of each along `axis`, one after the other, or by
    turns when `interleaved`. With `turned` the foreign tensor has its last two of three axes the other way round;
    `axis` counts in our order."""

    ours: tuple[str, ...]
    theirs: str
    axis: int
    size: int
    interleaved: bool = False
    turned: bool = False

    def to_archc(self) -> Exprs:
        whole: WeightExpr = _turn(Old(self.theirs)) if self.turned else Old(self.theirs)
        return {name: Take(whole, self.axis, self._rows(i)) for i, name in enumerate(self.ours)}

    def to_foreign(self) -> Exprs:
        whole: WeightExpr = Concat(tuple(Old(name) for name in self.ours), self.axis)
        if self.interleaved:
            parts = range(len(self.ours))
            whole = Take(whole, self.axis, [i * self.size + row for row in range(self.size) for i in parts])
        return {self.theirs: _turn(whole) if self.turned else whole}

    def _rows(self, i: int) -> range:
        if self.interleaved:
            return range(i, len(self.ours) * self.size, len(self.ours))
        return range(i * self.size, (i + 1) * self.size)


def named(scope: str, prefix: str, table: Mapping[str, str], shapes: Mapping[str, Shape]) -> list[Entry]:
    """`Same` for each parameter of `table` that the model has: `<scope>.<param>` is `<prefix><table[param]>`."""
    return [Same(f"{scope}.{ours}", prefix + theirs) for ours, theirs in table.items() if f"{scope}.{ours}" in shapes]


def _turn(x: WeightExpr) -> WeightExpr:
    return Transpose(x, (0, 2, 1))
