"""Two graphs node by node: which nodes stand for one another, and which dims."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archc.ir.align import Alignment, Match, shared_dims
from archc.ir.diff_nodes import FieldChange, node_changes
from archc.ir.dims import Dim
from archc.ir.graph import Graph, Node


@dataclass(frozen=True)
class Slot:
    """A node of A, one of B, or two that stand for one another; `match` is the index of their units' match."""

    a: Node | None
    b: Node | None
    match: int

    @property
    def node(self) -> Node:
        """A's node, else B's."""
        node = self.a or self.b
        if node is None:
            raise ValueError("a slot of nothing")
        return node


@dataclass(frozen=True)
class Paired:
    """Two aligned graphs with every node of both in one slot, in the order of the alignment."""

    a: Graph
    b: Graph
    alignment: Alignment

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, those of one match after one another."""
        return tuple(slot for i, match in enumerate(self.alignment.matches) for slot in _slots(match, i))

    @functools.cached_property
    def shared(self) -> frozenset[str]:
        """Names of dims of either graph that no block has for itself (d_model, vocab)."""
        return shared_dims(self.a) | shared_dims(self.b)

    @functools.cached_property
    def dims(self) -> Mapping[tuple[str, str], tuple[str, Dim, Dim]]:
        """Shared dims that stand for one another, by their names: the role that tells so, A's dim and B's."""
        found: dict[tuple[str, str], tuple[str, Dim, Dim]] = {}
        for slot in self.slots:
            if slot.a is None or slot.b is None:
                continue
            for role, dim in slot.a.op.dims.items():
                other = slot.b.op.dims.get(role)
                if other is not None and dim.name in self.shared and other.name in self.shared:
                    found.setdefault((dim.name, other.name), (role, dim, other))
        return found

    @functools.cached_property
    def b_of(self) -> Mapping[str, str]:
        """B's id of every node of A that has a partner."""
        return {s.a.id: s.b.id for s in self.slots if s.a is not None and s.b is not None}

    @functools.cached_property
    def changes(self) -> Mapping[int, tuple[FieldChange, ...]]:
        """What differs in every slot of two nodes, by the slot's index."""
        pairs = ((i, s.a, s.b) for i, s in enumerate(self.slots))
        return {i: node_changes(a, b, self.shared) for i, a, b in pairs if a is not None and b is not None}


def _slots(match: Match, index: int) -> Iterator[Slot]:
    """The nodes of two units by their roles, then in order where a role has no partner but the kind has."""
    ours, theirs = list(match.a.nodes if match.a else ()), list(match.b.nodes if match.b else ())
    if len(ours) == len(theirs) == 1:
        yield Slot(ours[0], theirs[0], index)
        return
    partner = {n.id: _take(theirs, [m for m in theirs if m.role == n.role]) for n in ours}
    for node in ours:
        other = partner.get(node.id) or _take(theirs, [m for m in theirs if m.op.kind == node.op.kind])
        yield Slot(node, other, index)
    for node in theirs:
        yield Slot(None, node, index)


def _take(nodes: list[Node], fitting: Sequence[Node]) -> Node | None:
    """The first that fits, taken out of `nodes`."""
    if not fitting:
        return None
    nodes.remove(fitting[0])
    return fitting[0]
