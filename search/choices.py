"""What a search may change: sizes of dims, how many layers of a kind stay and where they stand, options by value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import SearchError
from archc.passes.ranking import dims_of
from archc.search.paths import where

Column: TypeAlias = npt.NDArray[np.int64]  # [candidates]
Point: TypeAlias = Mapping[str, int]  # a value for each choice by name
Points: TypeAlias = Mapping[str, Column]


@dataclass(frozen=True)
class Choice:
    """One thing that is searched: its name in the search file, and the values that it may have, in order."""

    name: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or list(self.values) != sorted(set(self.values)):
            raise SearchError(f"`{self.name}`: expected values in order, none twice: got {list(self.values)}")

    def symbols(self, values: Column) -> Iterator[tuple[str, Column]]:
        """What symbols of a cost program stand for where the choice has these values."""
        yield from ()

    @property
    def base(self) -> int:
        """The value that the base model has."""
        raise NotImplementedError

    @property
    def nearest(self) -> int:
        """The value that is nearest to the base's: what a choice has that means nothing."""
        return min(self.values, key=lambda value: abs(value - self.base))

    def shown(self, value: int) -> int | str:
        """A value as people read it."""
        return value


@dataclass(frozen=True)
class Size(Choice):
    """The size of a role such as `d_ff` or `n_heads`, in all layers that it means alike.

    `dims` are the names of its dims, each with how many of its units make one of the role's; `kind` and `layers` are
    those of `prune`.
    """

    dims: tuple[tuple[str, int], ...]
    had: int
    role: str
    kind: str = ""
    layers: tuple[int, ...] = ()

    def symbols(self, values: Column) -> Iterator[tuple[str, Column]]:
        for name, each in self.dims:
            yield name, values // each

    @property
    def base(self) -> int:
        return self.had

    def resized(self, value: int) -> dict[str, int]:
        """Sizes of the dims by name."""
        return {name: value // each for name, each in self.dims}


@dataclass(frozen=True)
class Count(Choice):
    """How many layers stay: of a kind, of all kinds, or of one layer alone.

    `order` are the blocks that it counts, the ones that go first before the others: at first `extra` that the base does
    not have, then its own, at `positions`."""

    order: tuple[str, ...]
    positions: tuple[int, ...]
    extra: int = 0

    def symbols(self, values: Column) -> Iterator[tuple[str, Column]]:
        for rank, block in enumerate(self.order):
            yield f"keep.{block}", (len(self.order) - values <= rank).astype(np.int64)

    @property
    def base(self) -> int:
        return len(self.positions)

    def gone(self, value: int) -> tuple[str, ...]:
        """The blocks that go."""
        return self.order[: len(self.order) - value]

    def dropped(self, value: int) -> tuple[int, ...]:
        """Positions of the base's layers that go."""
        return self.positions[: max(len(self.positions) - value, 0)]


@dataclass(frozen=True)
class Position(Choice):
    """Where the `nth` layer of a kind, from 1, stands: after how many layers of the kinds that keep their places."""

    kind: str
    nth: int
    had: int

    @property
    def base(self) -> int:
        return self.had


@dataclass(frozen=True)
class Option(Choice):
    """A field of the spec or an option of a pass: a value is a position in `meanings`, or itself where there are none.

    What it changes is more than sizes: a graph is built for each value. A base that has none of the values is at -1."""

    meanings: tuple[Any, ...] = ()
    had: int = -1

    @property
    def base(self) -> int:
        return self.had

    @property
    def nearest(self) -> int:
        return self.had if self.had in self.values else self.values[0]

    def meaning(self, value: int) -> Any:
        """What a value stands for."""
        return self.meanings[value] if self.meanings else value

    def shown(self, value: int) -> int | str:
        if value == -1:
            return "-"
        meaning = self.meaning(value)
        if isinstance(meaning, bool) or not isinstance(meaning, int | str):
            return json.dumps(meaning).replace('"', "")
        return meaning


def size(graph: Graph, path: str, values: tuple[int, ...], also: Mapping[str, str] | None = None) -> Size:
    """The choice of the size that a path means (`archc.search.paths`): `d_model`, `layers.*.mamba2.n_heads`.

    `also` are blocks that the base does not have, with the ones that they are copies of and whose sizes they take.
    Raises SearchError for values that the dim cannot have, UnknownName for a path that the model does not have.
    """
    at = where(path)
    if len(at.fields) > 1:
        raise SearchError(f"`{path}`: expected a dim such as `d_model`, `mlp.d_ff` or `layers.3.mlp.d_ff`")
    copies = also or {}
    blocks = graph.blocks.get(LAYERS, ())
    own = [i for i, block in enumerate(blocks) if block not in copies]
    wrong = [i for i in at.layers if i >= len(own)]
    if wrong:
        raise SearchError(f"`{path}`: the base has layers 0 to {len(own) - 1}: got {wrong[0]}")
    meant = {blocks[own[i]] for i in at.layers}
    dims = dims_of(graph, at.fields[0], at.kind, [i for i, b in enumerate(blocks) if copies.get(b, b) in meant])
    for dim, each in dims.values():
        step = each * dim.multiple_of * (2 if dim.order == "pairs" else 1)
        off = [v for v in values if v < 1 or v % step]
        if off:
            raise SearchError(f"`{path}` goes in steps of {step}: got {off[0]}")
        if dim.order == "fixed" and set(values) != {dim.size * each}:
            raise SearchError(f"`{path}` is fixed at {dim.size * each}")
    had = max(dim.size * each for dim, each in dims.values())
    named = tuple((name, each) for name, (_, each) in dims.items())
    return Size(path, values, named, had, at.fields[0], at.kind, at.layers)


def count(
    graph: Graph,
    path: str,
    values: tuple[int, ...],
    ranking: Sequence[int] = (),
    also: Mapping[str, str] | None = None,
) -> Count:
    """The choice of how many layers stay, by a ranking of the base's positions: the first of it goes first.

    `layers.mlp` counts those of a kind, `layers` all, `layers.3` one alone; `also` as in `size`. Raises SearchError
    where the ranking does not say which ones go.
    """
    _, _, of = path.partition(".")
    layer = int(of) if of.isdecimal() else None
    kind = "" if layer is not None else of
    copies, blocks = also or {}, graph.blocks.get(LAYERS, ())
    own = [block for block in blocks if block not in copies]
    if layer is not None and layer >= len(own):
        raise SearchError(f"`{path}`: the base has layers 0 to {len(own) - 1}")

    def counted(block: str) -> bool:
        return not kind or graph.node(f"{block}.mixer").op.kind == kind

    mine = [i for i, block in enumerate(own) if counted(block)] if layer is None else [layer]
    if not mine:
        kinds = sorted({graph.node(f"{block}.mixer").op.kind for block in blocks})
        raise SearchError(f"`{path}`: `{graph.name}` has no such layer; it has {', '.join(kinds)}")
    extra = [block for block in blocks if block in copies and counted(block)] if layer is None else []
    ranked = [i for i in ranking if i in mine]
    if values[0] < 0 or values[-1] > len(mine) + len(extra):
        raise SearchError(f"`{path}`: there are {len(mine)}: got {values[0]} to {values[-1]}")
    lacking = len(mine) - values[0] - len(ranked)
    if layer is None and lacking > 0:
        ranking_has = f"and the ranking names {len(ranked)} of them"
        raise SearchError(f"`{path}`: up to {len(mine) - values[0]} go, {ranking_has}")
    order = [*ranked, *(i for i in mine if i not in ranked)]
    return Count(path, values, (*extra, *(own[i] for i in order)), tuple(order), len(extra))


def positions(
    graph: Graph,
    path: str,
    values: tuple[int, ...],
    placed: Sequence[str],
    also: Mapping[str, str] | None = None,
) -> list[Position]:
    """The choices of where the layers of a kind stand (`place.attention`), one for each layer that there may be.

    `placed` are all kinds that are moved; `also` as in `size`: the base's own layers come before those that it has not.
    Raises SearchError for a kind that the model does not have, and for more places than there are."""
    _, _, kind = path.partition(".")
    copies, blocks = also or {}, graph.blocks.get(LAYERS, ())
    kinds = {block: graph.node(f"{block}.mixer").op.kind for block in blocks}
    if kind not in kinds.values():
        raise SearchError(
            f"`{path}`: `{graph.name}` has no such layer; it has {', '.join(sorted(set(kinds.values())))}"
        )
    stay = sum(k not in placed for k in kinds.values())
    if values[0] < 0 or values[-1] > stay:
        raise SearchError(f"`{path}`: {stay} other layers keep their places: got {values[0]} to {values[-1]}")
    had, before = dict[str, int](), 0
    for block, k in kinds.items():
        before += k not in placed and block not in copies
        if k == kind:
            had[block] = before
    mine = sorted(had, key=lambda block: block in copies)
    return [Position(f"{path}.{n}", values, kind, n, had[block]) for n, block in enumerate(mine, 1)]
