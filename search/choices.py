"""What a search may change: sizes of dims, and how many layers of a kind stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import SearchError
from archc.passes.drop_layers import DropLayers
from archc.passes.prune import Prune
from archc.passes.ranking import dims_of

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
        raise NotImplementedError

    @property
    def base(self) -> int:
        """The value that the base model has."""
        raise NotImplementedError


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
    """How many layers of a kind stay; `order` are the blocks of the kind, the ones that go first before the others."""

    kind: str
    order: tuple[str, ...]
    positions: tuple[int, ...]

    def symbols(self, values: Column) -> Iterator[tuple[str, Column]]:
        for rank, block in enumerate(self.order):
            yield f"keep.{block}", (len(self.order) - values <= rank).astype(np.int64)

    @property
    def base(self) -> int:
        return len(self.order)

    def gone(self, value: int) -> tuple[int, ...]:
        """Positions of the layers that go."""
        return self.positions[: len(self.order) - value]


def size(graph: Graph, path: str, values: tuple[int, ...]) -> Size:
    """The choice that a path means: `d_model`, `mlp.d_ff`, `layers.3.mlp.d_ff`, `layers.*.mamba2.n_heads`.

    Raises SearchError for values that the dim cannot have, UnknownName for a path that the model does not have.
    """
    *rest, role = path.split(".")
    layers: tuple[int, ...] = ()
    if rest[:1] == [LAYERS]:
        place = rest[1] if len(rest) > 1 else ""
        if place != "*" and not place.isdecimal():
            raise SearchError(f"`{path}`: expected `layers.*` or the position of a layer, got `layers.{place}`")
        layers, rest = () if place == "*" else (int(place),), rest[2:]
    if len(rest) > 1:
        raise SearchError(f"`{path}`: expected a dim such as `d_model`, `mlp.d_ff` or `layers.3.mlp.d_ff`")
    kind = rest[0] if rest else ""
    dims = dims_of(graph, role, kind, layers)
    sizes = {dim.size * each for dim, each in dims.values()}
    for dim, each in dims.values():
        step = each * dim.multiple_of * (2 if dim.order == "pairs" else 1)
        wrong = [v for v in values if v < 1 or v % step]
        if wrong:
            raise SearchError(f"`{path}` goes in steps of {step}: got {wrong[0]}")
        if dim.order == "fixed" and set(values) != {dim.size * each}:
            raise SearchError(f"`{path}` is fixed at {dim.size * each}")
    named = tuple((name, each) for name, (_, each) in dims.items())
    return Size(path, values, named, max(sizes), role, kind, layers)


def count(graph: Graph, kind: str, values: tuple[int, ...], ranking: tuple[int, ...]) -> Count:
    """The choice of how many layers of a kind stay, by a ranking of positions: the first of it goes first.

    Raises SearchError where the ranking does not say which ones go.
    """
    blocks = graph.blocks.get(LAYERS, ())
    mine = [i for i, block in enumerate(blocks) if graph.node(f"{block}.mixer").op.kind == kind]
    if not mine:
        kinds = sorted({graph.node(f"{block}.mixer").op.kind for block in blocks})
        raise SearchError(f"`layers.{kind}`: `{graph.name}` has no such layer; it has {', '.join(kinds)}")
    ranked = [i for i in ranking if i in mine]
    if values[0] < 0 or values[-1] > len(mine):
        raise SearchError(f"`layers.{kind}`: there are {len(mine)}: got {values[0]} to {values[-1]}")
    if len(ranked) < len(mine) - values[0]:
        raise SearchError(
            f"`layers.{kind}`: up to {len(mine) - values[0]} go, and the ranking names {len(ranked)} of them"
        )
    order = [*ranked, *(i for i in mine if i not in ranked)]
    return Count(f"{LAYERS}.{kind}", values, kind, tuple(blocks[i] for i in order), tuple(order))


@dataclass(frozen=True)
class Space:
    """A base model and the choices around it."""

    graph: Graph
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for c in self.choices:
            for name in (name for name, _ in c.symbols(np.array(c.values[:1]))):
                if name in seen:
                    raise SearchError(f"`{seen[name]}` and `{c.name}` both say what `{name.removeprefix('keep.')}` is")
                seen[name] = c.name

    @property
    def size(self) -> int:
        """How many candidates there are."""
        return int(np.prod([len(c.values) for c in self.choices], dtype=object))

    @property
    def names(self) -> tuple[str, ...]:
        """The choices' names."""
        return tuple(c.name for c in self.choices)

    @property
    def base(self) -> dict[str, int]:
        """The base model as a point."""
        return {c.name: c.base for c in self.choices}

    def at(self, ranks: npt.NDArray[np.int64]) -> dict[str, Column]:
        """Values of each choice from positions in its values, `[candidates, choices]`."""
        return {c.name: np.array(c.values, dtype=np.int64)[ranks[:, i]] for i, c in enumerate(self.choices)}

    def ranks(self, points: Points) -> npt.NDArray[np.int64]:
        """Positions `[candidates, choices]` of values."""
        return np.stack([np.searchsorted(c.values, points[c.name]) for c in self.choices], axis=1)

    @property
    def varying(self) -> tuple[str, ...]:
        """Dims whose sizes change."""
        return tuple(name for c in self.choices if isinstance(c, Size) for name, _ in c.dims)

    @property
    def droppable(self) -> tuple[str, ...]:
        """Blocks that may go."""
        return tuple(block for c in self.choices if isinstance(c, Count) for block in c.order)

    def symbols(self, points: Points) -> dict[str, Column]:
        """What a cost program's symbols stand for at each point."""
        return {name: values for c in self.choices for name, values in c.symbols(points[c.name])}

    def build(self, point: Point) -> Graph:
        """The candidate's graph, sizes and layers only."""
        sizes = {name: s for c in self.choices if isinstance(c, Size) for name, s in c.resized(point[c.name]).items()}
        gone = {
            block for c in self.choices if isinstance(c, Count) for block in c.order[: len(c.order) - point[c.name]]
        }
        graph = self.graph.without_blocks((LAYERS, block) for block in gone)
        made: Any = graph.with_dims(lambda d: dataclasses.replace(d, size=sizes.get(d.name, d.size)))
        return made  # type: ignore[no-any-return]

    def passes(self, point: Point, by: str) -> str:
        """The passes that make the candidate of the base model, units chosen `by` an estimator. Raises SearchError
        where the candidate is larger than the base."""
        gone = sorted(i for c in self.choices if isinstance(c, Count) for i in c.gone(point[c.name]))
        texts = [str(DropLayers(layers=tuple(gone)))] if gone else []
        left = len(self.graph.blocks.get(LAYERS, ())) - len(gone)
        for c in self.choices:
            if not isinstance(c, Size) or point[c.name] == c.base:
                continue
            if point[c.name] > c.base:
                raise SearchError(f"`{c.name}` is {c.base} in `{self.graph.name}`: passes make nothing larger")
            layers = tuple(i - sum(g < i for g in gone) for i in c.layers if i not in gone)
            if left and (layers or not c.layers):
                texts.append(str(Prune(dim=c.role, kind=c.kind, layers=layers, to=point[c.name], by=by)))
        return "; ".join(texts)


def check_point(space: Space, point: Mapping[str, Any]) -> Point:
    """A point with a value for each choice, in the space. Raises SearchError."""
    lacking = [name for name in space.names if name not in point]
    if lacking:
        raise SearchError(f"no value for {', '.join(f'`{n}`' for n in lacking)}")
    for c in space.choices:
        if point[c.name] not in c.values:
            raise SearchError(f"`{c.name}` is one of {c.values[0]} to {c.values[-1]}: got {point[c.name]}")
    return {c.name: int(point[c.name]) for c in space.choices}
