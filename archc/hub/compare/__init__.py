"""Weights of two models compared: what is the same, what was cut from what, what changed and what is new.

Parameters of nodes that stand for one another are compared a block at a time. What units of A's dims B keeps is found
in the values (`solve.py`) and held against every parameter made of them: a parameter is called sliced only where the
slice gives its values exactly, or times one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archc.hub.compare.evidence import evidence
from archc.hub.compare.layout import Link
from archc.hub.compare.report import ParamChange, Place, Status, Units, WeightsDiff
from archc.hub.compare.solve import Pair, Solver
from archc.hub.compare.values import equal, is_scaled, relative_norm
from archc.hub.weights import Weights
from archc.ir.align import shared_dims
from archc.ir.graph import Graph, Node
from archc.ir.op import Param
from archc.ir.selection import Selections
from archc.progress import bar

__all__ = ["ParamChange", "Place", "Status", "Units", "WeightsDiff", "compare_weights", "evidence"]

Block = tuple[Node, ...]  # of those nodes that own parameters


def compare_weights(a: Weights, b: Weights, pairs: Mapping[str, str | None]) -> WeightsDiff:
    """Compare the weights of two models; `pairs` has for each node of B the node of A that it stands for, by id.

    One block's weights are in memory at a time. A block that meets a shared dim (d_model) before anything tells its
    units is looked at again at the end."""
    comparison = _Comparison(a, b, pairs)
    blocks = list(_blocks(b.graph))
    with bar("weights", comparison.nbytes, unit="bytes") as advance:
        for block in blocks:
            advance(comparison.compare(block))
        for block in blocks:
            if comparison.learned_about(block):
                comparison.compare(block)
    params = tuple(comparison.params[f"{b.graph.scopes[n.id]}.{p.name}"] for n, p in b.graph.params())
    used = {param.source for param in params}
    return WeightsDiff(params, tuple(comparison.units()), tuple(key for key in a.shapes if key not in used))


def _blocks(graph: Graph) -> Iterator[Block]:
    """The nodes that own parameters, those of a block together."""
    found: dict[tuple[str, str], list[Node]] = {}
    for node, _ in graph.params():
        nodes = found.setdefault((node.region, node.block or node.id), [])
        if node not in nodes:
            nodes.append(node)
    yield from map(tuple, found.values())


@dataclass
class _Comparison:
    a: Weights
    b: Weights
    pairs: Mapping[str, str | None]
    solver: Solver = field(default_factory=Solver)
    params: dict[str, ParamChange] = field(default_factory=dict)
    met: dict[Block, frozenset[Link]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        found = ((self._key(node, param), self._source(node, param)) for node, param in self.b.graph.params())
        return sum(self.b.nbytes(key) + self.a.nbytes(source[0]) for key, source in found if source is not None)

    def compare(self, block: Block) -> int:
        """Compare the parameters of a block; the bytes that were read."""
        pairs = list(self._pairs(block))
        self.solver.solve([pair for _, pair in pairs])
        for node, pair in pairs:
            self.params[pair.key] = self._judged(node, pair)
        self.solver.forget()
        self.met[block] = frozenset(self.solver.known)
        return sum(pair.old.nbytes + pair.new.nbytes for _, pair in pairs)

    def _pairs(self, block: Block) -> Iterator[tuple[Node, Pair]]:
        """The parameters of a block that A has something of; notes the others."""
        for node in block:
            for param in node.op.params():
                key, source = self._key(node, param), self._source(node, param)
                if source is None:
                    self.params[key] = self._change(node, param, key, "new")
                else:
                    yield node, Pair(key, source[0], (source[1], param), self.a.read(source[0]), self.b.read(key))

    def _key(self, node: Node, param: Param) -> str:
        return f"{self.b.graph.scopes[node.id]}.{param.name}"

    def _source(self, node: Node, param: Param) -> tuple[str, Param] | None:
        """The parameter of A of that name in the node that stands for this one, with its key."""
        other = self.a.graph.by_id.get(self.pairs.get(node.id) or "")
        if other is None or other.op.kind != node.op.kind:
            return None
        found = (p for p in other.op.params() if p.name == param.name)
        return next(((f"{self.a.graph.scopes[other.id]}.{p.name}", p) for p in found), None)

    def _judged(self, node: Node, pair: Pair) -> ParamChange:
        """What became of a parameter, given all that is known of its dims."""
        dtypes = (self.a.dtypes[pair.source], self.b.dtypes[pair.key])
        more: dict[str, Any] = {"source": pair.source, "dtypes": dtypes if dtypes[0] != dtypes[1] else None}
        param = pair.params[1]
        if pair.same:
            return self._change(node, param, pair.key, "same", **more)
        selected = self.solver.selected(pair)
        if selected is not None and equal(selected, pair.new, pair.dtype):
            return self._change(node, param, pair.key, "sliced", dims=self.solver.cut(pair), **more)
        factor = self._factor(node, param.name)
        if selected is not None and factor and is_scaled(selected, pair.new, factor, pair.dtype):
            cut = self.solver.cut(pair)
            return self._change(node, param, pair.key, "sliced", dims=cut, scale=factor, **more)
        if pair.old.shape != pair.new.shape:
            return self._change(node, param, pair.key, "resized", **more)
        norm = relative_norm(pair.old if selected is None else selected, pair.new)
        return self._change(node, param, pair.key, "changed", norm=norm, **more)

    def _factor(self, node: Node, param: str) -> float | None:
        """What an op's choice of units multiplies a parameter by, as `Op.selected` says."""
        op = self.a.graph.by_id[self.pairs[node.id] or ""].op
        names = {dim.name for dim in op.dims.values()}
        chosen = [one for one in self.solver.known.values() if one.dim.name in names]
        return op.selected(Selections(chosen))[1].get(param)

    def _change(self, node: Node, param: Param, key: str, status: Status, **more: Any) -> ParamChange:
        place = self._place(node)
        return ParamChange(key=key, status=status, kind=node.op.kind, param=param.name, place=place, **more)

    def _place(self, node: Node) -> Place:
        blocks = self.b.graph.blocks.get(node.region, ())
        return Place(region=node.region, position=blocks.index(node.block) if node.block in blocks else node.id)

    def learned_about(self, block: Block) -> bool:
        """Whether more is known now of a block's dims than when it was compared, and it left something open."""
        more = {new for _, new in self.solver.known.keys() - self.met[block]}
        keys = {self._key(node, param) for node in block for param in node.op.params()}
        is_open = any(self.params[key].status in ("changed", "resized") for key in keys)
        return is_open and any(d.name in more for node in block for d in node.op.dims.values())

    def units(self) -> Iterator[Units]:
        """The dims of B that are cut or reordered, each where its first op stands."""
        shared, firsts = shared_dims(self.b.graph), self._firsts()
        order = {name: i for i, name in enumerate(firsts)}
        for (_, name), selection in sorted(self.solver.known.items(), key=lambda item: order[item[0][1]]):
            if not selection.is_identity:
                role, node = firsts[name]
                place = Place() if name in shared else self._place(node)
                yield Units(dim=name, role=role, kind=node.op.kind, place=place, selection=selection)

    def _firsts(self) -> dict[str, tuple[str, Node]]:
        """For each dim the role that it plays first, and the node."""
        found: dict[str, tuple[str, Node]] = {}
        for node in self.b.graph.nodes:
            for role, dim in node.op.dims.items():
                found.setdefault(dim.name, (role, node))
        return found
