"""What differs between two graphs, as a model's designer would say it, and what each difference costs or saves.

    >>> from archc.resolve import load
    >>> for change in diff(load("nemotron-h-8b"), load("nemotron-h-4b")).changes:
    ...     print(change.words)
    d_model 4096 -> 3072 everywhere
    n_heads 128 -> 112 in 24 of 24 mamba2 layers
    d_ff 21504 -> 12288 in 24 of 24 mlp layers

Names are no difference, nor are ids. Structure comes first, then dims that the whole model shares, then the fields of
each kind of block, then formats, ties, multi-token prediction and how nodes are strung together.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from archc.ir.align import Alignment, Match, align
from archc.ir.diff_changes import Change, find_changes
from archc.ir.diff_cost import Effect, effect_of
from archc.ir.diff_nodes import OP, FieldChange
from archc.ir.diff_pairs import Paired
from archc.ir.diff_words import plain
from archc.ir.graph import Graph

if TYPE_CHECKING:
    from archc.ir.hardware import HardwareProfile

Status = Literal["same", "changed", "dropped", "added", "replaced"]


@dataclass(frozen=True)
class Row:
    """A line of the two models side by side: a block, or a node that stands in none (`region` is then empty or `mtp`).

    Positions are layers counted from 0, None for what has none. `fields` are what differs but for shared dims, those
    of other nodes than the block's own kind with the node's role before them (`norm.eps`)."""

    region: str
    a: str | None
    b: str | None
    a_position: int | None
    b_position: int | None
    a_kind: str
    b_kind: str
    status: Status
    fields: tuple[FieldChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = [{"field": f.field, "old": plain(f.old), "new": plain(f.new)} for f in self.fields]
        return {**told, "fields": fields}


@dataclass(frozen=True)
class Diff:
    """What differs between A and B; false where nothing does. `effect` is what that does to the cost."""

    paired: Paired = field(repr=False)
    changes: tuple[Change, ...]
    effect: Effect = field(repr=False)

    @property
    def a(self) -> Graph:
        """The graph that the changes start from."""
        return self.paired.a

    @property
    def b(self) -> Graph:
        """The graph that they lead to."""
        return self.paired.b

    @property
    def alignment(self) -> Alignment:
        """How the blocks were paired."""
        return self.paired.alignment

    def __bool__(self) -> bool:
        return bool(self.changes)

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every block of both, and every node that stands in none, once, in the order of the model."""
        return tuple(self._row(i, match) for i, match in enumerate(self.alignment.matches))

    def _row(self, i: int, match: Match) -> Row:
        fields = tuple(self._fields(i, match))
        a, b = match.a, match.b
        return Row(
            match.region,
            a.name if a else None,
            b.name if b else None,
            a.position if a else None,
            b.position if b else None,
            a.kind if a else "",
            b.kind if b else "",
            _status(match, fields),
            fields,
        )

    def _fields(self, i: int, match: Match) -> Iterator[FieldChange]:
        for at in self._slots_of.get(i, ()):
            changes = self.paired.changes[at]
            if match.replaced and any(OP in c.switches for c in changes):
                continue
            node = self.paired.slots[at].node
            inner = "" if node.op.Fields is not None or not node.block else f"{node.role}."
            yield from (dataclasses.replace(c, field=inner + c.field) for c in changes)

    @functools.cached_property
    def _slots_of(self) -> Mapping[int, list[int]]:
        """The slots with changes of every match."""
        found: dict[int, list[int]] = {}
        for at in self.paired.changes:
            found.setdefault(self.paired.slots[at].match, []).append(at)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data: the changes, the rows, and the effect on cost with each change's share.

        `open` lists blocks without partner of which structure tells only how many they are: `chosen` of `among`."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "same": not self,
            "aligned_by": self.alignment.by,
            "open": [dataclasses.asdict(slide) for slide in self.alignment.slides],
            "changes": [c.to_json() for c in self.changes],
            "effect": self.effect.to_json(),
            "rows": [r.to_json() for r in self.rows],
        }


def _status(match: Match, fields: Sequence[FieldChange]) -> Status:
    if match.a is None or match.b is None:
        return "added" if match.a is None else "dropped"
    if match.replaced:
        return "replaced"
    return "changed" if fields else "same"


def diff(
    a: Graph,
    b: Graph,
    profile: HardwareProfile | None = None,
    *,
    evidence: Mapping[str, str] | None = None,
    **workload: Any,
) -> Diff:
    """What differs between two graphs, and what that does to the cost under a workload.

    `evidence` is what `archc.ir.align.align` takes, `workload` what `archc.ir.cost.cost_sheet` takes.
    """
    paired = Paired(a, b, align(a, b, evidence))
    changes = find_changes(paired)
    return Diff(paired, changes, effect_of(paired, changes, profile, **workload))
