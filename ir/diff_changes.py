"""The differences of two paired graphs, in the order in which they are told and costed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from archc.ir.align import LONE_MTP, Match
from archc.ir.diff_nodes import OP, OWNER, FieldChange, dim_changes
from archc.ir.diff_pairs import Paired, Slot
from archc.ir.diff_words import Place, change_words, field_words, places_words, plain, region_words, structure_words
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.ir.workload import FormatChoice

Kind = Literal["dropped", "added", "replaced", "dim", "field", "formats", "owner", "mtp", "node", "link", "wiring"]

# Which slot (by index) a change turns from A's to B's, and in what: PRESENT, or as `FieldChange.switches` says.
Switch = tuple[int, str]
PRESENT = "@present"


@dataclass(frozen=True)
class Edit:
    """One place of a change: the layers, or names where there is no layer, in A and in B, and what was and what is."""

    a: Place | None
    b: Place | None
    old: Any = None
    new: Any = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"a": self.a, "b": self.b, "old": plain(self.old), "new": plain(self.new)}


@dataclass(frozen=True)
class Change:
    """One difference: what kind it is, of which region, kind of op and field, in words, and place by place.

    `total` counts the places where it could have been. `switches`, `dims` (names of A's dim and B's) and `formats` (the
    graph's) are what turns A into B in this respect."""

    kind: Kind
    words: str
    region: str = ""
    of: str = ""
    field: str = ""
    edits: tuple[Edit, ...] = ()
    total: int = 0
    switches: frozenset[Switch] = dataclasses.field(default=frozenset(), repr=False)
    dims: tuple[str, str] | None = dataclasses.field(default=None, repr=False)
    formats: bool = dataclasses.field(default=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        told = {name: getattr(self, name) for name in ("kind", "words", "region", "of", "field", "total")}
        return {**told, "edits": [e.to_json() for e in self.edits]}


def find_changes(paired: Paired) -> tuple[Change, ...]:
    """Every difference of the two graphs but their names and ids."""
    found = _Changes(paired)
    parts = (
        *(found.structure(region) for region in found.regions),
        found.nodes(),
        found.dims(),
        found.fields(),
        found.formats(),
        found.owners(),
        found.mtp(),
        found.links(),
        found.wiring(),
    )
    return tuple(change for part in parts for change in part)


class _Changes:
    def __init__(self, paired: Paired) -> None:
        self.paired = paired
        self.matches = paired.alignment.matches
        self.slots = paired.slots
        self.steps = paired.a.mtp_steps, paired.b.mtp_steps

    def places(self, slot: Slot) -> tuple[Place | None, Place | None]:
        """Where a slot stands in A and in B."""
        match = self.matches[slot.match]
        return tuple(u and (u.name if u.position is None else u.position) for u in (match.a, match.b))  # type: ignore[return-value]

    # -- structure -----------------------------------------------------------------------------------------------------

    @property
    def regions(self) -> list[str]:
        """Layers first, then what stands in none, then multi-token prediction."""
        last = (MTP_LAYERS, LONE_MTP)
        found = dict.fromkeys(m.region for m in self.matches)
        return sorted(found, key=lambda r: (r in last, r != LAYERS))

    @functools.cached_property
    def of_mtp(self) -> frozenset[int]:
        """Matches without partner that come or go with steps of multi-token prediction."""
        if self.steps[0] == self.steps[1]:
            return frozenset()
        return frozenset(i for i, m in enumerate(self.matches) if self._of_steps(m))

    def _of_steps(self, match: Match) -> bool:
        alone = match.a is None or match.b is None
        mtp = match.region in (MTP_LAYERS, LONE_MTP)
        return alone and mtp and (not all(self.steps) or match.region == LONE_MTP or match.either.refers)

    def structure(self, region: str) -> Iterator[Change]:
        """Blocks dropped, added and replaced in one region."""
        here = [(i, m) for i, m in enumerate(self.matches) if m.region == region and i not in self.of_mtp]
        yield from self._alone("dropped", region, [(i, m) for i, m in here if m.b is None])
        yield from self._alone("added", region, [(i, m) for i, m in here if m.a is None])
        yield from self._replaced(region, [(i, m) for i, m in here if m.replaced])

    def _alone(
        self, kind: Literal["dropped", "added"], region: str, found: list[tuple[int, Match]]
    ) -> Iterator[Change]:
        if not found:
            return
        side = 0 if kind == "dropped" else 1
        places = {m.either.name: _place(m.either.position, m.either.name) for _, m in found}
        kinds = {places[m.either.name]: m.either.kind for _, m in found}
        every = {u.name: _place(u.position, u.name) for m in self.matches for u in (m.a, m.b)[side : side + 1] if u}
        # What comes or goes with steps of multi-token prediction is not told here, though it may be among a slide's.
        slides = [
            (chosen, [every[name] for name in s.among])
            for s in self.paired.alignment.slides
            if s.region == region and s.side == "ab"[side]
            if (chosen := [every[name] for name in s.chosen if every[name] in kinds])
        ]
        edits = [Edit(p, None, k) if side == 0 else Edit(None, p, None, k) for p, k in kinds.items()]
        yield Change(
            kind,
            structure_words(kind, region, kinds, slides),
            region,
            edits=tuple(edits),
            total=len(every),
            switches=self._present({i for i, _ in found}),
        )

    def _present(self, matches: Iterable[int]) -> frozenset[Switch]:
        chosen = frozenset(matches)
        return frozenset((i, PRESENT) for i, slot in enumerate(self.slots) if slot.match in chosen)

    def _replaced(self, region: str, found: list[tuple[int, Match]]) -> Iterator[Change]:
        if not found:
            return
        ways: dict[tuple[str, str], list[Place]] = {}
        edits, chosen = [], {i for i, _ in found}
        for _, m in found:
            if m.a is not None and m.b is not None:
                at = _place(m.a.position, m.a.name), _place(m.b.position, m.b.name)
                edits.append(Edit(*at, m.a.kind, m.b.kind))
                ways.setdefault((m.a.kind, m.b.kind), []).append(at[0])
        told = "; ".join(self._way(region, old, new, places) for (old, new), places in ways.items())
        there = [i for i, s in enumerate(self.slots) if s.match in chosen and self._is_replaced(i)]
        switches = {(i, switch) for i in there for c in self._of(i) for switch in c.switches}
        alone = {(i, PRESENT) for i, s in enumerate(self.slots) if s.match in chosen and None in (s.a, s.b)}
        yield Change("replaced", f"replaced: {told}", region, edits=tuple(edits), switches=frozenset(switches | alone))

    def _way(self, region: str, old: str, new: str, places: Sequence[Place]) -> str:
        """Which blocks became another kind; every one of several of a kind is not listed."""
        there = sum(m.a is not None and m.region == region and m.a.kind == old for m in self.matches)
        every = len(places) == there > 1
        where = f"all {there} {old} {region_words(region, []).strip()}" if every else region_words(region, places)
        return f"{where} ({old} -> {new})"

    def _is_replaced(self, index: int) -> bool:
        """Whether the slot's op is what makes its block another kind."""
        slot = self.slots[index]
        named = any(n is not None and n.op.Fields is not None for n in (slot.a, slot.b))
        return self.matches[slot.match].replaced and named and any(OP in c.switches for c in self._of(index))

    def _of(self, index: int) -> tuple[FieldChange, ...]:
        return self.paired.changes.get(index, ())

    def nodes(self) -> Iterator[Change]:
        """Nodes that only one of two blocks has, where the blocks are of one kind."""
        groups: dict[tuple[str, str, str, str, str], list[int]] = {}
        for i, slot in enumerate(self.slots):
            match = self.matches[slot.match]
            if match.a is None or match.b is None or match.replaced or (slot.a is not None and slot.b is not None):
                continue
            what = "dropped" if slot.b is None else "added"
            groups.setdefault((match.region, match.a.kind, what, slot.node.role, slot.node.op.kind), []).append(i)
        for (region, of, what, role, kind), found in groups.items():
            places = [self.places(self.slots[i]) for i in found]
            at = region_words(region, [_first(p) for p in places])
            yield Change(
                "node",
                f"{what} in {at}: {role} ({kind})",
                region,
                of,
                role,
                tuple(Edit(a, b, *((kind, None) if what == "dropped" else (None, kind))) for a, b in places),
                switches=frozenset((i, PRESENT) for i in found),
            )

    # -- dims and fields -----------------------------------------------------------------------------------------------

    def dims(self) -> Iterator[Change]:
        """Dims that the whole model shares."""
        for names, (role, a, b) in self.paired.dims.items():
            sizes = [FieldChange(role, a.size, b.size)] if a.size != b.size else []
            for c in (*sizes, *dim_changes(role, a, b)):
                edits = (Edit(None, None, c.old, c.new),)
                words = f"{c.field} {change_words(c.old, c.new)} everywhere"
                yield Change("dim", words, field=c.field, edits=edits, total=1, dims=names if c in sizes else None)

    def fields(self) -> Iterator[Change]:
        """Fields of blocks, kind by kind, then of other nodes, then those that changed alike wherever they are."""
        groups: dict[tuple[str, str, str], list[tuple[int, FieldChange]]] = {}
        for i in self.paired.changes:
            node = self.slots[i].node
            for change in () if self._is_replaced(i) else self._of(i):
                region = self.matches[self.slots[i].match].region if node.op.Fields is not None else ""
                groups.setdefault((region, node.op.kind, change.field), []).append((i, change))
        kinds = list(dict.fromkeys(key[:2] for key in groups))
        alike = {
            name: found for name in dict.fromkeys(key[2] for key in groups) if (found := self._alike(name, groups))
        }
        for key in sorted(groups, key=lambda k: (not self._is_named(groups[k]), kinds.index(k[:2]))):
            if key[2] not in alike:
                yield self._field(*key, groups[key])
        for name, everywhere in alike.items():
            yield self._everywhere(name, everywhere)

    def _alike(
        self, name: str, groups: Mapping[tuple[str, str, str], list[tuple[int, FieldChange]]]
    ) -> list[tuple[int, FieldChange]]:
        """The changes of a field that several kinds of op have, if all that have it changed by the same; else none."""
        found = [one for key, group in groups.items() if key[2] == name for one in group]
        have = [i for i in self.paired.changes if hasattr(self.slots[i].node.op, name) and _same_kind(self.slots[i])]
        alike = len({change_words(c.old, c.new) for _, c in found}) == 1 and len(found) == len(have)
        return found if alike and len({self.slots[i].node.op.kind for i, _ in found}) > 1 else []

    def _everywhere(self, name: str, found: list[tuple[int, FieldChange]]) -> Change:
        edits = tuple(Edit(*self.places(self.slots[i]), c.old, c.new) for i, c in found)
        switches = frozenset((i, switch) for i, c in found for switch in c.switches)
        words = f"{name} {change_words(found[0][1].old, found[0][1].new)} everywhere"
        return Change("field", words, field=name, edits=edits, total=len(found), switches=switches)

    def _is_named(self, found: Sequence[tuple[int, FieldChange]]) -> bool:
        return self.slots[found[0][0]].node.op.Fields is not None

    def _field(self, region: str, of: str, name: str, found: list[tuple[int, FieldChange]]) -> Change:
        """One field's change: nodes that refer to a changed one change with it, and are not counted."""
        named = self._is_named(found)
        counted = [(i, c) for i, c in found if not self.slots[i].node.owner] or found
        places = [(self.places(self.slots[i]), c) for i, c in counted]
        total = sum(
            self._is_like(slot, region, of, named) and (name == "kind" or _same_kind(slot)) for slot in self.slots
        )
        listed = [(_first(place), c.old, c.new) for place, c in places]
        kind_or_field = "" if name == "kind" else name
        return Change(
            "field",
            field_words(kind_or_field, of, region, listed, max(total, len(listed)), named=named),
            region,
            of,
            name,
            tuple(Edit(*place, c.old, c.new) for place, c in places),
            max(total, len(listed)),
            frozenset((i, switch) for i, c in found for switch in c.switches),
        )

    def _is_like(self, slot: Slot, region: str, of: str, named: bool) -> bool:
        """Whether a slot of two nodes could have a change of a field of that kind of op and be counted."""
        if slot.a is None or slot.b is None or slot.a.owner or slot.a.op.kind != of:
            return False
        return not named or self.matches[slot.match].region == region

    # -- the whole model -----------------------------------------------------------------------------------------------

    def formats(self) -> Iterator[Change]:
        """The model's own formats by class, as they take effect."""
        ours, theirs = (FormatChoice().of(g) for g in (self.paired.a, self.paired.b))
        changed = [name for name in ours if ours[name] != theirs[name]]
        if changed:
            told = ", ".join(f"{name} {ours[name]} -> {theirs[name]}" for name in changed)
            edits = tuple(Edit(name, name, ours[name], theirs[name]) for name in changed)
            yield Change("formats", f"formats: {told}", edits=edits, total=len(ours), formats=True)

    def owners(self) -> Iterator[Change]:
        """Nodes whose parameters became their own, or another's."""
        for i, slot in enumerate(self.slots):
            if slot.a is None or slot.b is None or self._mapped(slot.a.owner) == slot.b.owner:
                continue
            old, new = slot.a.owner or None, slot.b.owner or None
            a_of = {theirs: ours for ours, theirs in self.paired.b_of.items()}
            told = f"{slot.a.id} tied to {a_of.get(new, new)}" if new else f"{slot.a.id} untied from {old}"
            edits = (Edit(slot.a.id, slot.b.id, old, new),)
            yield Change("owner", told, edits=edits, switches=frozenset({(i, OWNER)}))

    def _mapped(self, a_id: str) -> str:
        """B's id for A's, itself where it has no partner: then it equals none of B's."""
        return self.paired.b_of.get(a_id, f"{a_id} (A)" if a_id else "")

    def mtp(self) -> Iterator[Change]:
        """Steps of multi-token prediction, and with the first or the last its blocks."""
        old, new = self.steps
        if old == new:
            return
        kinds = [self.matches[i].either for i in sorted(self.of_mtp)]
        blocks = ", ".join(u.kind for u in kinds if u.region == MTP_LAYERS and not u.refers)
        counted = f"{max(old, new)} step{'s' if max(old, new) > 1 else ''}" + (f" of {blocks}" if blocks else "")
        words = f"{old} -> {new} steps" if old and new else f"{'added' if new else 'dropped'} ({counted})"
        yield Change(
            "mtp",
            f"multi-token prediction: {words}",
            MTP_LAYERS,
            field="steps",
            edits=(Edit(None, None, old, new),),
            switches=self._present(self.of_mtp),
        )

    def links(self) -> Iterator[Change]:
        """Dims of blocks' own that became one dim, or stopped being one."""
        ours, theirs = (self._linked(side) for side in (0, 1))
        for group in ours - theirs:
            yield self._link(group, "no longer linked", True, False)
        for group in theirs - ours:
            yield self._link(group, "linked", False, True)

    def _linked(self, side: int) -> set[tuple[tuple[int, str], ...]]:
        """The (slot, role)s, owners only, that stand for one dim of a graph."""
        found: dict[str, list[tuple[int, str]]] = {}
        for i, slot in enumerate(self.slots):
            node = (slot.a, slot.b)[side]
            if slot.a is None or slot.b is None or node is None or slot.a.owner or slot.b.owner:
                continue
            for role, dim in node.op.dims.items():
                if dim.name not in self.paired.shared:
                    found.setdefault(dim.name, []).append((i, role))
        return {tuple(group) for group in found.values() if len(group) > 1}

    def _link(self, group: Sequence[tuple[int, str]], told: str, old: bool, new: bool) -> Change:
        slots = [self.slots[i] for i, _ in group]
        places = [self.places(slot) for slot in slots]
        roles = ", ".join(dict.fromkeys(role for _, role in group))
        region = self.matches[slots[0].match].region
        at = region_words(region, list(dict.fromkeys(_first(p) for p in places)))
        return Change("link", f"{roles} {told} in {at}", region, field=roles,
                      edits=tuple(Edit(a, b, old, new) for a, b in places))  # fmt: skip

    # -- edges ---------------------------------------------------------------------------------------------------------

    def wiring(self) -> Iterator[Change]:
        """Inputs, outputs and edges, but for what follows from blocks that came or went."""
        a, b = self.paired.a, self.paired.b
        if a.inputs != b.inputs:
            yield _ends("inputs", [f"{n} [{', '.join(map(str, axes))}]" for n, axes in a.inputs],
                        [f"{n} [{', '.join(map(str, axes))}]" for n, axes in b.inputs])  # fmt: skip
        ours, theirs = self._outputs(a, self._mapped), self._outputs(b, lambda node_id: node_id)
        if ours != theirs:
            yield _ends("outputs", *([f"{name} = {source}" for name, source in ends] for ends in (ours, theirs)))
        moved = [(s.a, s.b) for s in self.slots if s.a is not None and s.b is not None and self._rewired(s.a, s.b)]
        if moved:
            edits = tuple(Edit(x.id, y.id, x.inputs, y.inputs) for x, y in moved)
            names = places_words([x.id for x, _ in moved])
            yield Change("wiring", f"other inputs of {names}", field="edges", edits=edits)

    def _outputs(self, graph: Graph, mapped: Callable[[str], str]) -> list[tuple[str, str]]:
        """What comes out, by B's ids: steps of multi-token prediction only where both have as many."""
        steps = self.steps[0] == self.steps[1]
        return [(name, mapped(source)) for name, source in graph.outputs if steps or not name.startswith("mtp.")]

    def _rewired(self, a: Node, b: Node) -> bool:
        """Whether a node reads other values than before, of those that both graphs have."""
        if len(a.inputs) != len(b.inputs):
            return True
        known, there = self._values
        pairs = zip(a.inputs, b.inputs, strict=True)
        return any(x in known and y in there and self.paired.b_of.get(x, x) != y for x, y in pairs)

    @functools.cached_property
    def _values(self) -> tuple[frozenset[str], frozenset[str]]:
        """Ids of A's values that B has too, and of B's that A has."""
        inputs = [[name for name, _ in g.inputs] for g in (self.paired.a, self.paired.b)]
        return frozenset([*self.paired.b_of, *inputs[0]]), frozenset([*self.paired.b_of.values(), *inputs[1]])


def _ends(what: str, old: Sequence[str], new: Sequence[str]) -> Change:
    return Change("wiring", f"{what}: {'; '.join(old)} -> {'; '.join(new)}", field=what,
                  edits=(Edit(None, None, tuple(old), tuple(new)),))  # fmt: skip


def _same_kind(slot: Slot) -> bool:
    return slot.a is not None and slot.b is not None and slot.a.op.kind == slot.b.op.kind


def _place(position: int | None, name: str) -> Place:
    return name if position is None else position


def _first(places: tuple[Place | None, Place | None]) -> Place:
    """A's place, else B's."""
    a, b = places
    found = b if a is None else a
    return "" if found is None else found
