"""A base model and the choices around it: candidates as points, their graphs, and the passes that make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from archc.ir.arrange import arranged
from archc.ir.dims import Dim
from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import SearchError
from archc.passes.drop_layers import DropLayers
from archc.passes.prune import Prune
from archc.search.choices import Choice, Column, Count, Option, Point, Points, Position, Size

C = TypeVar("C", bound=Choice)


@dataclass(frozen=True)
class Condition:
    """That a choice means something only where another has one of some values."""

    on: str
    values: tuple[int, ...]


Make = Callable[[Point], "Space"]


@dataclass(frozen=True)
class Space:
    """A base model and the choices around it.

    Where a choice's condition does not hold, or that of the choice that it depends on, it is at the value nearest to
    the base's and counts for nothing. `graph` has every layer that any candidate has, also those that the base has not.
    `before` are the passes that make it of the base, `apart` says why there are none.

    Choices that change more than sizes and layers (`Option`) need `make`: the space of the other choices around the
    model that they make of the base.
    """

    graph: Graph
    choices: tuple[Choice, ...]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    before: str = ""
    apart: str = ""
    make: Make | None = None
    _made: dict[tuple[int, ...], Space] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for c in self.choices:
            for name in (name for name, _ in c.symbols(np.array(c.values[:1]))):
                if name in seen:
                    raise SearchError(f"`{seen[name]}` and `{c.name}` both say what `{name.removeprefix('keep.')}` is")
                seen[name] = c.name
        for place, c in enumerate(self.choices):
            condition = self.conditions.get(c.name)
            if condition is None:
                continue
            known = {before.name: before for before in self.choices[:place]}
            if condition.on not in known:
                raise SearchError(f"`{c.name}` depends on `{condition.on}`, which must stand before it in the space")
            if not set(condition.values) & set(known[condition.on].values):
                raise SearchError(f"`{c.name}` depends on values that `{condition.on}` never has")

    @property
    def size(self) -> int:
        """How many points there are, those among them that differ only in choices that mean nothing."""
        return int(np.prod([len(c.values) for c in self.choices], dtype=object))

    @property
    def names(self) -> tuple[str, ...]:
        """The choices' names."""
        return tuple(c.name for c in self.choices)

    @property
    def base(self) -> dict[str, int]:
        """The base model as a point."""
        return {c.name: c.base for c in self.choices}

    @property
    def droppable(self) -> tuple[str, ...]:
        """Blocks that may go."""
        return tuple(block for c in self._all(Count) for block in c.order)

    def _all(self, kind: type[C]) -> Iterator[C]:
        return (c for c in self.choices if isinstance(c, kind))

    # -- points --------------------------------------------------------------------------------------------------------

    def at(self, ranks: npt.NDArray[np.int64]) -> dict[str, Column]:
        """Values of each choice from positions in its values, `[candidates, choices]`."""
        return {c.name: np.array(c.values, dtype=np.int64)[ranks[:, i]] for i, c in enumerate(self.choices)}

    def ranks(self, points: Points) -> npt.NDArray[np.int64]:
        """Positions `[candidates, choices]` of values."""
        return np.stack([np.searchsorted(c.values, points[c.name]) for c in self.choices], axis=1)

    def settled(self, ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The same candidates, choices that mean nothing at one value: the same candidate is the same point."""
        if not self.conditions:
            return ranks
        made, active = ranks.copy(), dict[str, npt.NDArray[np.bool_]]()
        for i, c in enumerate(self.choices):
            active[c.name] = np.ones(len(ranks), dtype=np.bool_)
            condition = self.conditions.get(c.name)
            if condition is not None:
                other = self.choices[self.names.index(condition.on)]
                values = np.array(other.values)[made[:, self.names.index(condition.on)]]
                active[c.name] = active[condition.on] & np.isin(values, condition.values)
                made[~active[c.name], i] = c.values.index(c.nearest)
        return made

    def symbols(self, points: Points) -> dict[str, Column]:
        """What a cost program's symbols stand for at each point of a space without options."""
        return {name: values for c in self.choices for name, values in c.symbols(points[c.name])}

    # -- options -------------------------------------------------------------------------------------------------------

    @property
    def has_options(self) -> bool:
        """Whether candidates differ in more than sizes and layers."""
        return any(True for _ in self._all(Option))

    def under(self, point: Point) -> Space:
        """The space of the other choices, around the model that the options make of the base."""
        options = tuple(self._all(Option))
        if not options or self.make is None:
            return self
        key = tuple(int(point[c.name]) for c in options)
        if key not in self._made:
            self._made[key] = self.make({c.name: value for c, value in zip(options, key, strict=True)})
        return self._made[key]

    def groups(self, points: Points) -> Iterator[tuple[npt.NDArray[np.int64], Space]]:
        """Candidates of the same options, by their positions, each group with the space that they lie in."""
        options = tuple(self._all(Option))
        columns = np.stack([points[c.name] for c in options], axis=1)
        keys, which = np.unique(columns, axis=0, return_inverse=True)
        for i, key in enumerate(keys):
            chosen = {c.name: int(value) for c, value in zip(options, key, strict=True)}
            yield np.flatnonzero(which.ravel() == i), self.under(chosen)

    # -- candidates ----------------------------------------------------------------------------------------------------

    def build(self, point: Point) -> Graph:
        """The candidate's graph, without weights."""
        within = self.under(point)
        if within is not self:
            return within.build(point)
        sizes = {name: s for c in self._all(Size) for name, s in c.resized(point[c.name]).items()}

        def sized(dim: Dim) -> Dim:
            within = sized(dim.within) if dim.within else None
            return dataclasses.replace(dim, size=sizes.get(dim.name, dim.size), within=within)

        graph = self._without(point).with_dims(sized)
        order = self._order(graph, point)
        return arranged(graph, LAYERS, [(block, block) for block in order]) if order else graph

    def passes(self, point: Point, by: str) -> str:
        """The passes that make the candidate of the base model, units chosen `by` an estimator. Raises SearchError
        where no passes do: for one that is larger than the base, say."""
        within = self.under(point)
        if within is not self:
            return within.passes(point, by)
        if self.apart:
            raise SearchError(self.apart)
        for c in (*self._all(Size), *self._all(Count)):
            if point[c.name] > c.base:
                raise SearchError(f"`{c.name}` is {c.base} in the base: passes make nothing larger")
        gone = sorted(i for c in self._all(Count) for i in c.dropped(point[c.name]))
        if self._moved(point):
            raise SearchError("passes move no layers: a candidate with weights keeps the base's order")
        texts = [self.before] if self.before else []
        texts += [str(DropLayers(layers=tuple(gone)))] if gone else []
        left = self._without(point).dims
        for c in self._all(Size):
            layers = tuple(i - sum(g < i for g in gone) for i in c.layers if i not in gone)
            if point[c.name] != c.base and any(name in left for name, _ in c.dims):
                texts.append(str(Prune(dim=c.role, kind=c.kind, layers=layers, to=point[c.name], by=by)))
        return "; ".join(texts)

    def _without(self, point: Point) -> Graph:
        """The graph without the layers that go."""
        gone = {block for c in self._all(Count) for block in c.gone(point[c.name])}
        return self.graph.without_blocks((LAYERS, block) for block in gone)

    def _order(self, graph: Graph, point: Point) -> Sequence[str]:
        """Blocks of a candidate's graph in the order that the positions say; none where nothing is moved."""
        moved = list(self._all(Position))
        if not moved:
            return ()
        kinds = {block: graph.node(f"{block}.mixer").op.kind for block in graph.blocks.get(LAYERS, ())}
        placed = dict.fromkeys(c.kind for c in moved)
        stay = [block for block, kind in kinds.items() if kind not in placed]
        before: list[list[str]] = [[] for _ in range(len(stay) + 1)]
        for kind in placed:
            mine = [block for block, other in kinds.items() if other == kind]
            places = sorted(point[c.name] for c in moved if c.kind == kind and c.nth <= len(mine))
            for block, place in zip(mine, places, strict=True):
                before[min(place, len(stay))].append(block)
        return [block for i, blocks in enumerate(before) for block in (*blocks, *stay[i : i + 1])]

    def _moved(self, point: Point) -> bool:
        """Whether the positions change the order of layers."""
        graph = self._without(point)
        order = self._order(graph, point)
        return bool(order) and tuple(order) != graph.blocks.get(LAYERS, ())
