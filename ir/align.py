"""Which blocks of two graphs stand for one another.

Where the graphs have a common ancestor, ids tell: passes keep them. Elsewhere structure does, by an alignment of each
region's blocks (`archc.ir.sequence`) whose costs know kinds and sizes. Weisfeiler-Lehman hashes of the blocks around
choose between alignments that cost the same, and what they still cannot tell (which of equal layers went) is said.
Nothing is ever paired because it has the same index.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from archc.ir.graph import Graph, Node
from archc.ir.sequence import MOST_CHANGED, OTHER_KIND, Loose, pair_up

By = Literal["lineage", "structure", "evidence"]
# Nodes that stand in no block: of the model, and of its multi-token prediction.
LONE, LONE_MTP = "", "mtp"
_ITERATIONS = 3


@dataclass(frozen=True, eq=False)
class Unit:
    """A block, or a node that stands in none. `position` is the block's, None where it only refers to another.

    Units are told apart by identity: those of two graphs may look alike."""

    region: str
    name: str
    nodes: tuple[Node, ...]
    position: int | None = None

    @functools.cached_property
    def kind(self) -> str:
        """The kinds of its ops that a spec may name, or of its only node."""
        named = [n.op.kind for n in self.nodes if n.op.Fields is not None]
        return "+".join(named or (n.op.kind for n in self.nodes))

    @property
    def refers(self) -> bool:
        """Whether all its parameters are another's."""
        return self.position is None and all(n.owner or not any(True for _ in n.op.params()) for n in self.nodes)


@dataclass(frozen=True)
class Match:
    """Units that stand for one another, or one that stands for nothing."""

    a: Unit | None
    b: Unit | None

    @property
    def region(self) -> str:
        """The region, which both share."""
        return self.either.region

    @property
    def either(self) -> Unit:
        """A's unit, else B's."""
        unit = self.a or self.b
        if unit is None:
            raise ValueError("a match of nothing")
        return unit

    @property
    def replaced(self) -> bool:
        """Whether another kind of block stands in the place; another kind of norm is a change like others."""
        if self.a is None or self.b is None or self.a.kind == self.b.kind:
            return False
        return any(n.op.Fields is not None for n in (*self.a.nodes, *self.b.nodes))


@dataclass(frozen=True)
class Slide:
    """Units of one side without partner of which structure tells only how many they are.

    `chosen` stand so in the alignment, but others of `among` would do as well; all are names of units."""

    region: str
    side: Literal["a", "b"]
    chosen: tuple[str, ...]
    among: tuple[str, ...]


@dataclass(frozen=True)
class Alignment:
    """Every unit of both graphs once, in the order of the model; `by` says how they were paired."""

    by: By
    matches: tuple[Match, ...]
    slides: tuple[Slide, ...] = ()


def align(a: Graph, b: Graph, evidence: Mapping[str, str] | None = None) -> Alignment:
    """Pair the units of two graphs.

    `evidence` maps ids of A's blocks to those of B's of which it is certain that they correspond (equal weights, say);
    structure pairs what lies between.
    """
    all_ours, all_theirs = _units(a), _units(b)
    ours, theirs = _by_region(all_ours), _by_region(all_theirs)
    by: By = "evidence" if evidence else "lineage" if a.ancestry & b.ancestry else "structure"
    aligner = _Aligner(_Contexts(a, all_ours), _Contexts(b, all_theirs), shared_dims(a) | shared_dims(b))
    matches: dict[Unit, Match] = {}
    slides: list[Slide] = []
    for region in dict.fromkeys((*ours, *theirs)):
        left, right = ours.get(region, []), theirs.get(region, [])
        if by == "lineage":
            found = _certain(left, right, {u.name: u.name for u in left})
        else:
            found = aligner.aligned(left, right, evidence or {}, slides)
        matches.update({unit: m for m in found for unit in (m.a, m.b) if unit is not None})
    return Alignment(by, tuple(_in_order(all_ours, all_theirs, matches)), tuple(slides))


# -- units -------------------------------------------------------------------------------------------------------------


def _units(graph: Graph) -> list[Unit]:
    """The units of a graph in order."""
    positions = {(r, b): i for r, blocks in graph.blocks.items() for i, b in enumerate(blocks)}
    found: dict[tuple[str, str], list[Node]] = {}
    for node in graph.nodes:
        lone = LONE_MTP if graph.in_mtp(node) else LONE
        found.setdefault((node.region, node.block) if node.block else (lone, node.id), []).append(node)
    return [Unit(region, name, tuple(nodes), positions.get((region, name))) for (region, name), nodes in found.items()]


def _by_region(units: Iterable[Unit]) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.region, []).append(unit)
    return found


def _in_order(ours: Iterable[Unit], theirs: Sequence[Unit], matches: Mapping[Unit, Match]) -> Iterator[Match]:
    """All matches in A's order, those of B alone before what they precede in B."""
    place = {unit: j for j, unit in enumerate(theirs)}
    at = 0
    for unit in ours:
        match = matches[unit]
        for other in theirs[at : place[match.b] if match.b else at]:
            yield from _alone(matches[other])
            at += 1
        yield match
    for other in theirs[at:]:
        yield from _alone(matches[other])


def _alone(match: Match) -> Iterator[Match]:
    if match.a is None:
        yield match


# -- by certainty ------------------------------------------------------------------------------------------------------


def _certain(ours: Sequence[Unit], theirs: Sequence[Unit], names: Mapping[str, str]) -> list[Match]:
    """Pairs by name alone, as many as keep their order; the rest stands alone."""
    found: list[Match] = []
    for left, right in _between(ours, theirs, names):
        found += [Match(u, None) for u in left[1:]] + [Match(None, u) for u in right[1:]]
        if left[0] is not None:
            found.append(Match(left[0], right[0]))
    return found


def _between(
    ours: Sequence[Unit], theirs: Sequence[Unit], names: Mapping[str, str]
) -> Iterator[tuple[list[Any], list[Any]]]:
    """Each certain pair with what follows it up to the next; first what precedes them all, after None."""
    there = {u.name: j for j, u in enumerate(theirs)}
    known = [(i, there[names[u.name]]) for i, u in enumerate(ours) if names.get(u.name) in there]
    cuts = [(-1, -1), *_ascending(known), (len(ours), len(theirs))]
    for (i, j), (to, onto) in itertools.pairwise(cuts):
        first: tuple[Any, Any] = (ours[i], theirs[j]) if i >= 0 else (None, None)
        yield [first[0], *ours[i + 1 : to]], [first[1], *theirs[j + 1 : onto]]


def _ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs that ascend on both sides; they ascend on the first."""
    tails: list[int] = []
    ends: list[int] = []  # which pair ends the best chain of each length
    before: list[int | None] = []
    for at, (_, j) in enumerate(pairs):
        length = bisect.bisect_left(tails, j)
        tails[length:] = [j, *tails[length + 1 :]]
        ends[length:] = [at, *ends[length + 1 :]]
        before.append(ends[length - 1] if length else None)
    chain: list[tuple[int, int]] = []
    at_end: int | None = ends[-1] if ends else None
    while at_end is not None:
        chain.append(pairs[at_end])
        at_end = before[at_end]
    return chain[::-1]


# -- by structure ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Aligner:
    """Aligns by structure; `shared` are names of dims that tell nothing of one unit, such as d_model."""

    ours: _Contexts
    theirs: _Contexts
    shared: frozenset[str]

    def aligned(
        self, left: list[Unit], right: list[Unit], evidence: Mapping[str, str], slides: list[Slide]
    ) -> list[Match]:
        """Matches of the units of one region; appends what remains open to `slides`."""
        found: list[Match] = []
        for (first, *ours), (partner, *theirs) in _between(left, right, evidence):
            if first is not None:
                found.append(Match(first, partner))
            cost = self.costs(ours, theirs)
            pairing = pair_up(cost, len(theirs), functools.partial(self.disagreement, ours, theirs))
            found += [Match(None if i is None else ours[i], None if j is None else theirs[j]) for i, j in pairing.pairs]
            slides += [_slide((ours, theirs)[one.side], one) for one in pairing.loose]
        return found

    def costs(self, ours: Sequence[Unit], theirs: Sequence[Unit]) -> list[list[int]]:
        """What pairing each with each costs: nothing where they are equal but for shared dims and names.

        Few units are unlike all others: each two kinds of unit are compared once."""
        left, right = ([(u.kind, self.traits(u)) for u in units] for units in (ours, theirs))
        columns = list(dict.fromkeys(right))
        of_column = [columns.index(traits) for traits in right]
        by_row = {row: [_mismatch(row[1], c[1]) if row[0] == c[0] else OTHER_KIND for c in columns]
                  for row in dict.fromkeys(left)}  # fmt: skip
        return [[costs[at] for at in of_column] for costs in map(by_row.__getitem__, left)]

    @functools.cached_property
    def _traits(self) -> dict[Unit, Any]:
        return {}

    def traits(self, unit: Unit) -> tuple[tuple[str, Any], ...]:
        """What tells a unit apart: kinds, own sizes and attributes of its nodes, and whether they refer."""
        if unit not in self._traits:
            self._traits[unit] = tuple(_traits(unit, self.shared))
        found: tuple[tuple[str, Any], ...] = self._traits[unit]
        return found

    def disagreement(self, ours: Sequence[Unit], theirs: Sequence[Unit], i: int, j: int) -> int:
        """How many of the neighbourhoods of 1 to 3 steps differ, in kinds and in kinds and sizes."""
        a, b = self.ours.hashes(self)[ours[i]], self.theirs.hashes(self)[theirs[j]]
        return sum(x != y for x, y in zip(a, b, strict=True))


def _slide(units: Sequence[Unit], one: Loose) -> Slide:
    chosen, among = (tuple(units[i].name for i in which) for which in (one.items, one.among))
    return Slide(units[0].region, "b" if one.side else "a", chosen, among)


def _traits(unit: Unit, shared: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for i, node in enumerate(unit.nodes):
        yield f"{i}.kind", node.op.kind
        yield f"{i}.refers", bool(node.owner)
        yield from ((f"{i}.{role}", d.size) for role, d in node.op.dims.items() if d.name not in shared)
        yield from ((f"{i}.{name}", value) for name, value in node.op.attributes.items())
        yield from ((f"{i}.format.{name}", value) for name, value in sorted(node.formats))


def _mismatch(a: tuple[tuple[str, Any], ...], b: tuple[tuple[str, Any], ...]) -> int:
    """How different units of one kind are: the mean over what both have, a size by its ratio."""
    ours, theirs = dict(a), dict(b)
    apart = sum(_apart(ours.get(name), theirs.get(name)) for name in {**ours, **theirs})
    return max(1, int(MOST_CHANGED * apart / len({**ours, **theirs}))) if apart else 0


def _apart(x: Any, y: Any) -> float:
    if x == y and type(x) is type(y):
        return 0.0
    if type(x) is type(y) is int and x > 0 and y > 0:
        return 1 - min(x, y) / max(x, y)
    return 1.0


def shared_dims(graph: Graph) -> frozenset[str]:
    """Names of the dims that ops of several kinds are made of (d_model, vocab): no unit's own."""
    kinds: dict[str, set[str]] = {}
    for node in graph.nodes:
        for dim in node.op.dims.values():
            kinds.setdefault(dim.name, set()).add(node.op.kind)
    return frozenset(name for name, found in kinds.items() if len(found) > 1)


class _Contexts:
    """Weisfeiler-Lehman hashes of the units of a graph, as nodes of its quotient by blocks."""

    def __init__(self, graph: Graph, units: Sequence[Unit]) -> None:
        self.graph, self.units = graph, {u.name: u for u in units}
        self._hashes: dict[Unit, list[str]] = {}

    def hashes(self, aligner: _Aligner) -> dict[Unit, list[str]]:
        """For every unit the hashes of its neighbourhoods: by kinds, then by kinds and sizes."""
        if not self._hashes:
            import networkx

            quotient = networkx.Graph()
            for name, unit in self.units.items():
                quotient.add_node(name, kind=unit.kind, traits=repr(aligner.traits(unit)))
            home = {node.id: name for name, unit in self.units.items() for node in unit.nodes}
            quotient.add_edges_from(
                (home[source], home[node.id])
                for node in self.graph.nodes
                for source in node.inputs
                if home.get(source, home[node.id]) != home[node.id]
            )
            for label in ("kind", "traits"):
                found = networkx.weisfeiler_lehman_subgraph_hashes(quotient, node_attr=label, iterations=_ITERATIONS)
                for name, unit in self.units.items():
                    self._hashes.setdefault(unit, []).extend(found[name])
        return self._hashes
