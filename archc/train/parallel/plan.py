"""How a model is cut among processes, derived from its graph: which dims, where sums over processes stand.

Processes form a mesh of `ep` x `tp` (and `dp` copies of that, which no plan knows). An op is cut along dims of its own
that a product sums over and whose units meet in nothing but that sum (`Op.exact`): parts of the op then add up to it.
Such a dim lies within nothing, so that each part of a parameter is a plain range of rows or columns; dims within the
experts are cut alike in each. Ops among whose units tokens choose (`Op.spreads`) are cut along those units over `ep`,
and everything else of them over the rest of the mesh, so that every term of the sum is counted once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archc.ir.dims import Axis, Concat, Dim, Product
from archc.ir.graph import Graph, Node
from archc.ir.op import Op, Param
from archc.ir.selection import Selection, Selections
from archc.ir.slicing import select
from archc.ir.verify import where
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import UnsupportedError, listed

EP, TP = "ep", "tp"
HELD = "held"  # role of the dim that `Op.spread` makes
MODEL_AXES = (EP, TP)  # in the order in which a dim cut over both is laid out

At = Mapping[str, int]


@dataclass(frozen=True)
class Cut:
    """A dim cut into equal runs of units over axes of the mesh, the first axis outermost."""

    role: str
    dim: str
    size: int
    over: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A parameter as sharded training has it: the whole one, or one part of its Concat axis.

    `key` is that of the parameter, `part` the name of the part along tensor axis `axis` (0 and "" for a whole one),
    which holds positions `start` to `start + shape[axis]` there. `cuts` says which mesh axis cuts which tensor axis.
    """

    key: str
    part: str
    axis: int
    start: int
    shape: tuple[int, ...]
    cuts: tuple[tuple[str, int], ...]
    trained: bool

    @property
    def name(self) -> str:
        """`layers.0.mixer.in_proj.z`: what checkpoints of training call it, however it is cut."""
        return f"{self.key}.{self.part}" if self.part else self.key

    def local(self, degrees: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of one process's share."""
        shape = list(self.shape)
        for mesh_axis, tensor_axis in self.cuts:
            shape[tensor_axis] //= degrees[mesh_axis]
        return tuple(shape)


@dataclass(frozen=True)
class Used:
    """A parameter of a cut op that several processes have whole, along `over`.

    Its gradient is their sum. One that is added `once`, behind the product that is summed, counts on the first of
    them only.
    """

    param: str
    over: tuple[str, ...]
    once: bool


@dataclass(frozen=True)
class CutOp:
    """A node that is cut: its output is summed over the mesh axes `over`, and so is its input's gradient."""

    node: str
    scope: str
    kind: str
    cuts: tuple[Cut, ...]
    over: tuple[str, ...]
    used: tuple[Used, ...]

    @property
    def _does(self) -> str:
        cut = ", ".join(f"{c.role} {c.size} / {' x '.join(c.over)}" for c in self.cuts)
        summed = [u.param for u in self.used if not u.once]
        once = [u.param for u in self.used if u.once]
        more = [f"gradients summed: {', '.join(summed)}"] if summed else []
        more += [f"added once: {', '.join(once)}"] if once else []
        return "; ".join([cut, f"all-reduce over {' x '.join(self.over)}", *more])


@dataclass(frozen=True)
class Plan:
    """A graph and how it is cut. `whole` are nodes with parameters that every process of the mesh has all of."""

    graph: Graph
    ep: int
    tp: int
    ops: tuple[CutOp, ...]
    whole: tuple[str, ...]

    @property
    def degrees(self) -> Mapping[str, int]:
        """Size of each axis of the mesh."""
        return {EP: self.ep, TP: self.tp}

    @property
    def processes(self) -> int:
        """How many processes share one copy of the model."""
        return self.ep * self.tp

    @functools.cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Every parameter of the model, those with a Concat axis part by part."""
        cut = {op.node: op for op in self.ops}
        found: list[Piece] = []
        for node, param in self.graph.params():
            key = f"{self.graph.scopes[node.id]}.{param.name}"
            found += _pieces(key, self._spread(node, 0).op.param(param.name), cut.get(node.id))
        return tuple(found)

    def shard(self, at: At) -> tuple[Graph, WeightMap]:
        """The graph of the process at these coordinates, and its weights over those of the whole."""
        first = at[EP]
        graph = dataclasses.replace(self.graph, nodes=tuple(self._spread(n, first) for n in self.graph.nodes))
        return select(graph, Selections([s for op in self.ops for s in self._selections(graph, op, at)]))

    def _spread(self, node: Node, ep_rank: int) -> Node:
        """The node with its experts' weights over a dim of their own, where those are cut."""
        cut = self._by_node.get(node.owner or node.id)
        units = next((c for c in cut.cuts if c.role == node.op.spreads), None) if cut is not None else None
        if units is None:
            return node
        return dataclasses.replace(node, op=node.op.spread(ep_rank * units.size // self.ep))

    @functools.cached_property
    def _by_node(self) -> Mapping[str, CutOp]:
        return {op.node: op for op in self.ops}

    def _selections(self, graph: Graph, cut: CutOp, at: At) -> Iterator[Selection]:
        each = {c.dim: c.size // math.prod(self.degrees[a] for a in c.over) for c in cut.cuts}
        for one in cut.cuts:
            dim = graph.dims[one.dim]
            start = each[one.dim] * position(one.over, at, self.degrees)
            rows = math.prod(each.get(d.name, d.size) for d in dim.outer)
            yield Selection(dim, np.tile(np.arange(start, start + each[one.dim]), (rows, 1)))

    def to_json(self) -> dict[str, Any]:
        """The plan for machines."""
        ops = [dataclasses.asdict(op) for op in self.ops]
        pieces = [{"name": p.name, "shape": list(p.shape), "cuts": dict(p.cuts)} for p in self.pieces]
        return {
            "graph": self.graph.hash,
            **self.degrees,
            "ops": ops,
            "whole": list(self.whole),
            "parameters": pieces,
            "share": self.share,
        }

    @property
    def share(self) -> float:
        """The part of the model's parameters that one process has."""
        held = sum(math.prod(p.local(self.degrees)) for p in self.pieces)
        return held / max(sum(math.prod(p.shape) for p in self.pieces), 1)

    def __str__(self) -> str:
        lines = [f"{self.graph.name}: tp {self.tp}, ep {self.ep}; each process has {self.share:.1%} of the parameters"]
        alike: dict[str, list[str]] = {}
        for op in self.ops:
            alike.setdefault(f"{op.kind}: {op._does}", []).append(op.scope)
        lines += [f"  {does}\n    {listed(scopes)}" for does, scopes in alike.items()]
        kinds: dict[str, list[str]] = {}
        for node_id in self.whole:
            kinds.setdefault(self.graph.by_id[node_id].op.kind, []).append(self.graph.scopes[node_id])
        return "\n".join([*lines, *(f"  {kind}: whole\n    {listed(scopes)}" for kind, scopes in kinds.items())])


def plan(graph: Graph, *, tp: int = 1, ep: int = 1) -> Plan:
    """How `graph` is cut over `tp` x `ep` processes.

    Raises UnsupportedError that names every op and dim that a degree does not divide, or a degree that cuts nothing.
    """
    degrees = {EP: ep, TP: tp}
    if min(degrees.values()) < 1:
        raise UnsupportedError(f"degrees are at least 1: got tp={tp}, ep={ep}")
    owners = [n for n in graph.nodes if not n.owner and any(True for _ in n.op.params())]
    cuts = _agreed(graph, {n.id: _cuts(n.op, degrees) for n in owners})
    _check(graph, cuts, degrees)
    ops = tuple(_cut_op(graph, n, cuts[n.id], degrees) for n in owners if cuts[n.id])
    return Plan(graph, ep, tp, ops, tuple(n.id for n in owners if not cuts[n.id]))


def position(over: Iterable[str], at: At, degrees: Mapping[str, int]) -> int:
    """Which run of a dim that is cut over these axes belongs to the process at these coordinates."""
    found = 0
    for axis in over:
        found = found * degrees[axis] + at[axis]
    return found


# -- which dims --------------------------------------------------------------------------------------------------------


def _agreed(graph: Graph, cuts: dict[str, tuple[Cut, ...]]) -> dict[str, tuple[Cut, ...]]:
    """The cuts without those of ops that share a dim with one that is not cut along it: these stay whole."""
    while True:
        refused = {
            d.name
            for node in graph.nodes
            for d in node.op.dims.values()
            if d.name not in {c.dim for c in cuts.get(node.owner or node.id, ())}
        }
        agreed = {k: () if any(c.dim in refused for c in found) else found for k, found in cuts.items()}
        if agreed == cuts:
            return cuts
        cuts = agreed


def _cuts(op: Op, degrees: Mapping[str, int]) -> tuple[Cut, ...]:
    """The dims of an op that are cut over axes of these degrees."""
    op, found = _spread_op(op, degrees), []
    for role, dim in op.dims.items():
        if dim.name in _stream(op):
            continue
        if role == HELD:
            over: tuple[str, ...] = (EP,)
        elif _adds_up(op, role, dim):
            over = (EP, TP) if op.spreads and not dim.within else (TP,)
        else:
            continue
        over = tuple(a for a in over if degrees[a] > 1)
        if over:
            found.append(Cut(op.spreads if role == HELD else role, dim.name, dim.size, over))
    return tuple(found)


def _spread_op(op: Op, degrees: Mapping[str, int]) -> Op:
    return op.spread(0) if op.spreads and degrees[EP] > 1 else op


def _stream(op: Op) -> frozenset[str]:
    """The dims of the op's inputs and output."""
    return frozenset(d.name for axes in (*op.inputs(), op.output()) for axis in axes for d in axis.dims())


def _adds_up(op: Op, role: str, dim: Dim) -> bool:
    """Whether parts of the op, each with a run of the dim's units, add up to the op."""
    chosen = [d for r, d in op.dims.items() if r in (op.spreads, HELD)]
    if role not in op.exact or dim.order != "free" or not (dim.within is None or dim.within in chosen):
        return False
    axes = [axis for param in op.params() for axis in param.axes]
    summed = any(p.contracts is not None and _has(p.contracts, dim) for p in op.params())
    return summed and all(_leads(axis, dim) for axis in axes if _has(axis, dim))


def _has(axis: Axis, dim: Dim) -> bool:
    return any(d.name == dim.name for d in axis.dims())


def _leads(axis: Axis, dim: Dim) -> bool:
    """Whether runs of the dim are runs of the axis, or of every part of it that has the dim."""
    if isinstance(axis, Concat):
        return all(_leads(part, dim) for _, part in axis.parts if _has(part, dim))
    if isinstance(axis, Product):
        return isinstance(axis.parts[0], Dim) and axis.parts[0].name == dim.name
    return True


def _check(graph: Graph, cuts: Mapping[str, Sequence[Cut]], degrees: Mapping[str, int]) -> None:
    """Raise UnsupportedError for degrees that do not divide what they cut, or cut nothing."""
    problems = []
    for node_id, found in cuts.items():
        for cut in found:
            parts = math.prod(degrees[a] for a in cut.over)
            if cut.size % parts:
                asked = " x ".join(f"{a}={degrees[a]}" for a in cut.over)
                at = where(graph, graph.by_id[node_id])
                problems.append(f"{at}: `{cut.role}` of {cut.size} does not divide by {asked}")
    used = {axis for found in cuts.values() for cut in found for axis in cut.over}
    for axis, degree in degrees.items():
        if degree > 1 and axis not in used:
            problems.append(f"{axis}={degree}: no op has a dim of its own that it could cut")
    if problems:
        sizes = {a: [c.size for found in cuts.values() for c in found if a in c.over] for a in degrees}
        common = {a: math.gcd(*sizes[a]) for a in degrees if degrees[a] > 1 and sizes[a]}
        hints = [f"{a} must divide {n}" for a, n in common.items() if n % degrees[a]]
        head = f"`{graph.name}` cannot be cut so" + (f" ({', '.join(hints)})" if hints else "")
        raise UnsupportedError("\n".join([f"{head}:", *(f"  {p}" for p in problems)]))


# -- what follows for parameters ---------------------------------------------------------------------------------------


def _cut_op(graph: Graph, node: Node, cuts: tuple[Cut, ...], degrees: Mapping[str, int]) -> CutOp:
    over = tuple(a for a in MODEL_AXES if any(a in c.over for c in cuts))
    op, dims, used = _spread_op(node.op, degrees), {c.dim: c for c in cuts}, []
    for param in op.params():
        mine = {a for axis in param.axes for d in axis.dims() if d.name in dims for a in dims[d.name].over}
        rest = tuple(a for a in over if a not in mine)
        if rest and param.trained:
            used.append(Used(param.name, rest, _added(op, param, dims)))
    return CutOp(node.id, graph.scopes[node.id], op.kind, cuts, over, tuple(used))


def _added(op: Op, param: Param, cut: Mapping[str, Cut]) -> bool:
    """Whether a parameter is added behind a product that sums over a cut dim: it is laid out as what that leaves."""
    if param.contracts is not None or param.lookup:
        return False
    for product in op.params():
        contracts = product.contracts
        if contracts is not None and any(d.name in cut for d in contracts.dims()):
            left = [str(a) for a in product.axes if str(a) != str(contracts)]
            if left == [str(a) for a in param.axes]:
                return True
    return False


def _pieces(key: str, param: Param, cut: CutOp | None) -> Iterator[Piece]:
    parts = [(i, axis.parts) for i, axis in enumerate(param.axes) if isinstance(axis, Concat)]
    if not parts:
        yield Piece(key, "", 0, 0, param.shape, _cut_axes(param.axes, cut), param.trained)
        return
    if len(parts) > 1:
        raise UnsupportedError(f"`{key}` has two axes of several parts: {', '.join(map(str, param.axes))}")
    axis, start = parts[0][0], 0
    for name, part in parts[0][1]:
        axes = [*param.axes[:axis], part, *param.axes[axis + 1 :]]
        yield Piece(key, name, axis, start, tuple(a.size for a in axes), _cut_axes(axes, cut), param.trained)
        start += part.size


def _cut_axes(axes: Sequence[Axis], cut: CutOp | None) -> tuple[tuple[str, int], ...]:
    """Which mesh axis cuts which of these axes."""
    over = {c.dim: c.over for c in cut.cuts} if cut is not None else {}
    found = {a: i for i, axis in enumerate(axes) for d in axis.dims() for a in over.get(d.name, ())}
    return tuple((a, found[a]) for a in MODEL_AXES if a in found)
