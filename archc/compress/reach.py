"""How passes make one block of another: what of it is merged, replaced and cut, or why nothing leads there.

Nothing here knows an op: an op is cut by role as `prune` cuts it and its spec fields are compared with the other's, so
that attributes that follow from a cut (parts of a norm, rotary frequencies) follow here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from archc.ir.diff_nodes import FieldChange, node_changes
from archc.ir.diff_words import change_words
from archc.ir.dims import Dim
from archc.ir.graph import LAYERS, Graph, Node
from archc.ir.op import Op
from archc.ir.ops.attention import Attention
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.selection import Selections
from archc.ir.weight_formats import DTYPE_BYTES
from archc.kernels.errors import ArchcError
from archc.passes import Context
from archc.passes.attention_to_mamba import AttentionToMamba
from archc.passes.merge_experts import MergeExperts
from archc.passes.merge_groups import MergeGroups
from archc.passes.merge_kv_heads import MergeKVHeads
from archc.passes.merging import MergePass
from archc.passes.ranking import kept

How = Literal["drop", "merge"]

# What can be merged instead of dropped, by what a choice calls it.
MERGES: Mapping[str, type[MergePass]] = MappingProxyType(
    {"kv_heads": MergeKVHeads, "groups": MergeGroups, "experts": MergeExperts}
)


@dataclass(frozen=True)
class Cut:
    """Units of the dim of a role that are left, of those that it had."""

    role: str
    had: int
    to: int


@dataclass(frozen=True)
class Way:
    """Passes on one block, in this order, each as it would be of this block alone, without `layers`."""

    replaced: AttentionToMamba | None = None
    merged: MergePass | None = None
    cuts: tuple[Cut, ...] = ()

    @property
    def how(self) -> How:
        """Whether units are merged or dropped."""
        return "merge" if self.merged else "drop"


@dataclass(frozen=True)
class Reach:
    """The ways from one block to another; where there is none, what no pass changes. `open` names what is to be chosen
    between ways, as in MERGES."""

    ways: tuple[Way, ...]
    problems: tuple[str, ...] = ()
    open: str = ""


@dataclass(frozen=True)
class Reacher:
    """Finds the ways from blocks of `a`; `shared` are names of dims that no block has for itself."""

    a: Graph
    shared: frozenset[str]
    _known: dict[Any, Reach] = field(default_factory=dict, repr=False, compare=False)

    def reach(self, x: Node, y: Node) -> Reach:
        """How `x`, of A, becomes `y`."""
        key = (x.op.key, x.op.sizes, x.formats, y.op.key, y.op.sizes, y.formats)
        if key not in self._known:
            self._known[key] = self._reach(x, y)
        return self._known[key]

    def _reach(self, x: Node, y: Node) -> Reach:
        if x.op.kind != y.op.kind:
            return self._replaced(x, y)
        tries = [self._cut(x, x, y, Way())]
        name, merges = next(((n, m) for n, m in MERGES.items() if isinstance(x.op, m.kind)), ("", None))
        if merges is not None and y.op.dims[merges.role].size < x.op.dims[merges.role].size:
            tries.append(self._merged(merges, x, y))
        ways = tuple(way for way, problems in tries if not problems)
        # What is wrong with the nearest of them says most.
        return Reach(ways, () if ways else min((p for _, p in tries), key=len), name)

    def _merged(self, merges: type[MergePass], x: Node, y: Node) -> tuple[Way, tuple[str, ...]]:
        had, to = x.op.dims[merges.role].size, y.op.dims[merges.role].size
        options: dict[str, Any] = {"to": to}
        if y.op.attributes.get("top_k") != x.op.attributes.get("top_k"):
            options["top_k"] = y.op.attributes["top_k"]
        one = merges(**options)
        if had % to:
            return Way(), (f"{merges.role} {had} -> {to} (merged equally: {to} must divide {had})",)
        try:
            made = one.remade(x.op, to)
        except ArchcError as error:
            return Way(), (str(error),)
        return self._cut(x, dataclasses.replace(x, op=made), y, Way(merged=one))

    def _replaced(self, x: Node, y: Node) -> Reach:
        kinds = f"{x.op.kind} -> {y.op.kind}"
        at = self.a.blocks[LAYERS].index(x.block) if x.region == LAYERS else None
        if not isinstance(x.op, Attention) or not isinstance(y.op, Mamba2) or at is None:
            return Reach((), (f"{kinds}: no pass makes one of the other",))
        stored = dict(self.a.formats).get("weights", "bf16")
        one = AttentionToMamba(
            d_state=y.op.d_state.size,
            n_groups=y.op.n_groups.size,
            conv_kernel=y.op.conv_kernel.size,
            chunk=y.op.chunk,
            dtype=stored if stored in DTYPE_BYTES else "bf16",
        )
        try:
            made, _ = dataclasses.replace(one, layers=(at,)).apply(self.a, Context())
        except ArchcError as error:
            return Reach((), (f"{kinds}: {error}",))
        way, problems = self._cut(made.node(x.id), made.node(x.id), y, Way(replaced=one))
        return Reach(() if problems else (way,), tuple(f"{kinds}: {problem}" for problem in problems))

    def _cut(self, x: Node, start: Node, y: Node, way: Way) -> tuple[Way, tuple[str, ...]]:
        """The way with what is cut after it, and what then is not as in `y`; `x` is the block as it was."""
        first, cuts, problems = self._narrowed(start.op, y.op, last=False)
        last, _, _ = self._narrowed(start.op, y.op, last=True)
        formats = list(other_formats(self.a, start, y))
        x, y, first_node, last_node = (
            dataclasses.replace(node, op=op, formats=())
            for node, op in ((x, x.op), (y, y.op), (start, first), (start, last))
        )
        # What follows from which units are kept (rotary frequencies) is seen once they are chosen.
        chosen = {c.field for c in node_changes(first_node, last_node, self.shared)}
        had = {c.field: c.old for c in node_changes(x, y, self.shared)}
        left = [c for c in node_changes(first_node, y, self.shared) if c.field not in chosen or not _alike(c)]
        broken = [message for _, message, _ in first.check(first.fields())]
        told = [f"{c.field} {change_words(had.get(c.field, c.old), c.new)}" for c in left]
        return dataclasses.replace(way, cuts=cuts), tuple(dict.fromkeys((*problems, *told, *broken, *formats)))

    def _narrowed(self, op: Op, to: Op, *, last: bool) -> tuple[Op, tuple[Cut, ...], list[str]]:
        """The op with its first units, or the last, as many as `to` has, the outer dims first, and why that cannot be.

        Dims that grow do so here, for the comparison of all else."""
        cuts, problems, grown = [], [], {}
        for role in op.dims:
            dim, wanted = op.dims[role], to.dims.get(role)
            if dim.name in self.shared or wanted is None or wanted.size == dim.size:
                continue
            if wanted.size > dim.size:
                grown[dim.name] = wanted.size
                problems.append(f"{role} {dim.size} -> {wanted.size} (no pass makes a dim larger)")
                continue
            if dim.order == "fixed":
                problems.append(f"{role} {dim.size} -> {wanted.size} (its units stand in a fixed order)")
            elif dim.order == "pairs" and wanted.size % 2:
                problems.append(f"{role} {dim.size} -> {wanted.size} (kept in whole rotary pairs)")
                continue
            cuts.append(Cut(role, dim.size, wanted.size))
            op = op.selected(Selections([kept(dim, _units(dim, wanted.size, last))]))[0]
        return op.with_dims(lambda d: _resized(d, grown)) if grown else op, tuple(cuts), problems


def _units(dim: Dim, to: int, last: bool) -> Any:
    """So many units as `passes.ranking.kept` takes them: `[rows, units]`, pairs where the dim has pairs."""
    each = 2 if dim.order == "pairs" else 1
    start = (dim.size - to) // each if last else 0
    return np.broadcast_to(np.arange(start, start + to // each), (max(dim.rows, 1), to // each))


def _resized(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    within = dim.within and _resized(dim.within, sizes)
    return dataclasses.replace(dim, size=sizes.get(dim.name, dim.size), within=within)


def _alike(change: FieldChange) -> bool:
    """Whether two values are as many numbers, though others."""
    old, new = change.old, change.new
    return isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new)


def other_formats(a: Graph, x: Node, y: Node) -> Iterator[str]:
    """The formats that `y` has for parameters of its own and `x`, of A, has not; what `y` leaves open may be any."""
    for name, wanted in y.formats:
        if a.weight_format(x, name) != wanted:
            yield f"{name} format {change_words(a.weight_format(x, name), wanted)}"


def mixers(graph: Graph, region: str) -> Iterator[Node]:
    """The mixers of a region's blocks by position, of those that have parameters of their own."""
    return (graph.node(f"{block}.mixer") for block in graph.blocks.get(region, ()))
