"""What the changes between two graphs do to the cost: a waterfall from A to B.

The changes are applied one after the other, in the order in which they are told, to nodes on the way from A to B, and
every stage is costed as a graph is. So each change's share is what it adds where the ones before it hold already, and
the shares sum to the whole difference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from archc.ir.arithmetic import plain
from archc.ir.cost import FormatChoice, Workload, cost_sheet, sums
from archc.ir.cost_graph import Costed
from archc.ir.diff_changes import PRESENT, Change
from archc.ir.diff_nodes import FORMAT, OP, OWNER, formats_of, told_by
from archc.ir.diff_pairs import Paired, Slot
from archc.ir.dims import Dim
from archc.ir.graph import Graph, Node
from archc.ir.op import Op

if TYPE_CHECKING:
    from archc.ir.cost_sheet import CostSheet
    from archc.ir.hardware import HardwareProfile

Figures = Mapping[str, int | float]


@dataclass(frozen=True)
class Stage:
    """The figures after one change, and what it added to each."""

    change: Change = field(repr=False)
    figures: Figures
    added: Figures


@dataclass(frozen=True)
class Effect:
    """What the changes do to the cost.

    `first` and `last` are the figures of A and of B that are sums over nodes (params, params_active, params_mtp,
    weights_bytes, state_bytes, resident_bytes, prefill_flops, decode_flops; on hardware prefill_s and decode_s), and
    `stages` lead from one to the other, one a change. Activations and the peak are maxima, not sums: the sheets of A
    and B have them.
    """

    a: CostSheet = field(repr=False)
    b: CostSheet = field(repr=False)
    first: Figures
    last: Figures
    stages: tuple[Stage, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "first": dict(self.first),
            "last": dict(self.last),
            "stages": [{"words": s.change.words, "added": dict(s.added)} for s in self.stages],
        }


def effect_of(
    paired: Paired,
    changes: Sequence[Change],
    profile: HardwareProfile | None = None,
    *,
    format: str | None = None,
    kv_format: str | None = None,
    ssm_format: str | None = None,
    conv_format: str | None = None,
    mtp: bool = True,
    **workload: Any,
) -> Effect:
    """The effect of `changes` under a workload: the arguments are those of `archc.ir.cost.cost_sheet`."""
    given: dict[str, Any] = {
        "format": format,
        "kv_format": kv_format,
        "ssm_format": ssm_format,
        "conv_format": conv_format,
        "mtp": mtp,
    }
    a, b = (cost_sheet(g, profile, **given, **workload) for g in (paired.a, paired.b))
    choice = FormatChoice(format, kv_format, ssm_format, conv_format)
    way = _Way(paired, changes)
    costed = [
        sums(Costed(way.graph(done), choice, mtp), Workload.of(**workload), profile) for done in range(len(changes) + 1)
    ]
    stages = tuple(
        Stage(change, after, {name: _added(before[name], value) for name, value in after.items()})
        for change, before, after in zip(changes, costed, costed[1:], strict=False)
    )
    return Effect(a, b, costed[0], costed[-1], stages)


def _added(before: float, after: float) -> float:
    """What was added; of seconds, which are floats, what rounding alone leaves is nothing."""
    noise = isinstance(after, float) and abs(after - before) <= _NOISE * abs(after)
    return 0.0 if noise else after - before


_NOISE = 1e-12


class _Way:
    """Graphs on the way from A to B: nodes, sizes and formats only, their edges left out."""

    def __init__(self, paired: Paired, changes: Sequence[Change]) -> None:
        self.paired, self.changes = paired, changes

    def graph(self, done: int) -> Graph:
        """A with the first `done` changes applied."""
        applied = self.changes[:done]
        switched: dict[int, set[str]] = {}
        for i, what in (switch for change in applied for switch in change.switches):
            switched.setdefault(i, set()).add(what)
        resized = {change.dims for change in applied if change.dims}
        source = self.paired.b if any(change.formats for change in applied) else self.paired.a
        made = [self._node(i, slot, switched.get(i, set()), resized) for i, slot in enumerate(self.paired.slots)]
        nodes = [node for node in made if node is not None]
        there = {node.id for node in nodes}
        kept = tuple(n if n.owner in there else dataclasses.replace(n, owner="") for n in nodes)
        outputs = (self.paired.b if done == len(self.changes) else self.paired.a).outputs
        return Graph(self.paired.a.name, kept, outputs, (), source.formats)

    def _node(self, i: int, slot: Slot, switched: set[str], resized: set[tuple[str, str]]) -> Node | None:
        if (slot.a is None) != (PRESENT in switched) and (slot.a is None or slot.b is None):
            return None
        op = self._op(slot, switched, resized)
        if slot.a is None:
            role, block = self._place_of_b(slot.node)
            owner = self._ids.get(slot.node.owner, "")
            return dataclasses.replace(slot.node, role=role, block=block, op=op, inputs=(), owner=owner)
        owner = slot.a.owner
        if slot.b is not None and OWNER in switched:
            owner = self._ids.get(slot.b.owner, "")
        theirs = dict(slot.b.formats) if slot.b is not None else {}
        names = [what.removeprefix(FORMAT) for what in switched if what.startswith(FORMAT)]
        formats = formats_of(slot.a, {name: theirs.get(name) for name in names})
        return dataclasses.replace(slot.a, op=op, inputs=(), owner=owner, formats=formats)

    @functools.cached_property
    def _ids(self) -> Mapping[str, str]:
        """The id on the way of every node of B."""
        return {slot.b.id: self._id(slot) for slot in self.paired.slots if slot.b is not None}

    def _id(self, slot: Slot) -> str:
        if slot.a is not None:
            return slot.a.id
        role, block = self._place_of_b(slot.node)
        return dataclasses.replace(slot.node, role=role, block=block).id

    def _place_of_b(self, node: Node) -> tuple[str, str]:
        """Role and block of a node that only B has, apart from all of A's."""
        block = f"{node.block}'" if node.block else ""
        return (node.role if block else f"{node.role}'"), block

    # -- ops -----------------------------------------------------------------------------------------------------------

    def _op(self, slot: Slot, switched: set[str], resized: set[tuple[str, str]]) -> Op:
        """A's op with the fields that are switched from B's, shared dims at the sizes that hold by now."""
        whole = slot.a is None or (slot.b is not None and OP in switched)
        op = slot.b.op if whole and slot.b is not None else slot.node.op
        fields: dict[str, Any] = {}
        for role, dim in op.dims.items():
            sizes = self._sizes_of_b(resized) if whole else self._sizes_of_a(resized)
            if dim.name in sizes:
                fields[role] = dataclasses.replace(dim, size=sizes[dim.name])
        if not whole and slot.b is not None:
            names = (f.name for f in dataclasses.fields(op) if f.name in switched)
            fields |= {name: _mixed(getattr(op, name), getattr(slot.b.op, name)) for name in names}
            return _as_told(dataclasses.replace(op, **fields), op, slot.b.op, switched)
        return dataclasses.replace(op, **fields)

    def _sizes_of_a(self, resized: set[tuple[str, str]]) -> dict[str, int]:
        return {names[0]: self.paired.dims[names][2].size for names in resized}

    def _sizes_of_b(self, resized: set[tuple[str, str]]) -> dict[str, int]:
        return {names[1]: a.size for names, (_, a, _) in self.paired.dims.items() if names not in resized}


def _as_told(mixed: Op, a: Op, b: Op, switched: set[str]) -> Op:
    """The mixed op with every spec field that no field of the class says as it is told by then: A's, or B's.

    n_heads of a Mamba-2 is n_groups * heads_per_group: while n_groups is B's and n_heads still A's, heads_per_group is
    neither's, and may be a fraction. Costs do not mind."""
    if a.Fields is None or type(a) is not type(b):
        return mixed
    found = mixed
    for name, dim in mixed.dims.items():
        field = told_by(mixed, name)
        if field is None:
            continue
        wanted, now = (getattr((b if name in switched else a).fields(), field), getattr(found.fields(), field))
        if wanted != now:
            size: Any = plain(Fraction(dim.size) * wanted / now)
            found = dataclasses.replace(found, **{name: dataclasses.replace(dim, size=size)})
    return found


def _mixed(ours: Any, theirs: Any) -> Any:
    """B's value; of two dims A's with B's size, so that names stay those of one graph."""
    both = isinstance(ours, Dim) and isinstance(theirs, Dim)
    return dataclasses.replace(ours, size=theirs.size) if both else theirs
