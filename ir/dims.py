"""Named dimensions and the layout of tensor axes in terms of them.

A `Dim` is identified by its name: two ops that share the residual stream hold the same `d_model`.
An axis is a `Dim`, a `Product` of axes (flattened row-major) or a `Concat` of named parts, and knows
its size, the dims it is made of, and how to print itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from archc.kernels.errors import GraphError

Order = Literal["free", "pairs", "fixed"]

BATCH, TOKENS = "batch", "tokens"


@dataclass(frozen=True)
class Dim:
    """One named dimension.

    `within` is the Dim that this one is nested in: each unit of the outer Dim has its own units of this one
    (heads_per_group within n_groups). `order` says which permutations keep the function: `free` any, `pairs`
    only whole rotary pairs, `fixed` none. A size of 0 marks a free dim (batch, tokens) that a workload binds.
    """

    name: str
    size: int
    within: Dim | None = None
    order: Order = "free"
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.size < 0 or self.size >= 2**40:
            raise GraphError(f"dim `{self.name}` must have a size between 1 and 2^40: got {self.size}")
        if self.multiple_of > 1 and self.size % self.multiple_of:
            raise GraphError(f"dim `{self.name}` must be a multiple of {self.multiple_of}: got {self.size}")

    @property
    def free(self) -> bool:
        """Whether a workload, not the model, gives the size."""
        return self.size == 0

    @property
    def outer(self) -> tuple[Dim, ...]:
        """The dims this one lies within, outermost first."""
        return () if self.within is None else (*self.within.outer, self.within)

    @property
    def rows(self) -> int:
        """How many units of the outer dims there are: the number of rows of a Selection of this dim."""
        return math.prod(d.size for d in self.outer)

    def dims(self) -> Iterator[Dim]:
        """This dim (an axis made of one dim)."""
        yield self

    def __mul__(self, other: Axis) -> Product:
        return Product((self, *_parts(other)))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Product:
    """Several axes flattened into one, the last varying fastest."""

    parts: tuple[Axis, ...]

    @functools.cached_property
    def size(self) -> int:
        return math.prod(p.size for p in self.parts)

    def dims(self) -> Iterator[Dim]:
        """The dims of all parts, in layout order."""
        for part in self.parts:
            yield from part.dims()

    def __mul__(self, other: Axis) -> Product:
        return Product((*self.parts, *_parts(other)))

    def __str__(self) -> str:
        return "*".join(str(p) for p in self.parts)


@dataclass(frozen=True)
class Concat:
    """Named parts, one after the other (in_proj rows are z | x | B | C | dt)."""

    parts: tuple[tuple[str, Axis], ...]

    @functools.cached_property
    def size(self) -> int:
        return sum(axis.size for _, axis in self.parts)

    def dims(self) -> Iterator[Dim]:
        """The dims of all parts, in layout order; a dim shared by parts appears once a part."""
        for _, part in self.parts:
            yield from part.dims()

    def __mul__(self, other: Axis) -> Product:
        return Product((self, *_parts(other)))

    def __str__(self) -> str:
        return "[" + " | ".join(f"{name}:{axis}" for name, axis in self.parts) + "]"


Axis: TypeAlias = Dim | Product | Concat

FREE_BATCH = Dim(BATCH, 0)
FREE_TOKENS = Dim(TOKENS, 0)


def concat(**parts: Axis) -> Concat:
    """`concat(z=a, x=b)`: an axis of named parts in the order given."""
    return Concat(tuple(parts.items()))


def _parts(axis: Axis) -> tuple[Axis, ...]:
    return axis.parts if isinstance(axis, Product) else (axis,)


def same_axis(a: Axis, b: Axis) -> bool:
    """Whether two axes are laid out of the same dims: names are compared, never sizes."""
    return str(a) == str(b)
