"""The graph: ops as nodes, typed values as edges; value semantics, ids that passes keep, scopes from position.

A node stands in a block of a region (`layers`, `mtp.layers`) or by itself. Its scope is where its parameters live
in the emitted module and in checkpoints (`layers.3.mixer`); it follows from the block's position, so that dropping
a layer moves scopes and keeps ids.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Axis, Dim
from archc.ir.op import Op, Param, all_dims
from archc.kernels.errors import GraphError, UnknownName

if TYPE_CHECKING:
    import networkx

    from archc.ir.cost_sheet import CostSheet
    from archc.ir.hardware import HardwareProfile

OpT = TypeVar("OpT", bound=Op)

LAYERS, MTP_LAYERS = "layers", "mtp.layers"
SHORT_HASH = 16


@dataclass(frozen=True)
class Node:
    """One op in a graph.

    Inside a region a node plays a `role` (norm, mixer, add) in a `block`; outside, the role is its whole name.
    `inputs` are ids of nodes or graph inputs. `owner` is the id of the node whose parameters this one uses (its own
    when empty). `formats` overrides the graph's weight format by parameter.
    """

    role: str
    op: Op
    inputs: tuple[str, ...]
    region: str = ""
    block: str = ""
    owner: str = ""
    formats: tuple[tuple[str, str], ...] = ()

    @functools.cached_property
    def id(self) -> str:
        """`L3.mixer` in a block, else the role: what passes keep and scores are keyed by."""
        return f"{self.block}.{self.role}" if self.block else self.role


@dataclass(frozen=True)
class Graph:
    """A model: nodes in topological order, inputs by id, outputs by name (hidden, logits, mtp.1, ...).

    `formats` gives the model's own formats by class: weights, kv, ssm, conv, activations. `lineage` names the graphs
    that passes made this one from, oldest first: ids mean the same in two graphs whose `ancestry` meets.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, tuple[Axis, ...]], ...] = (("tokens", (FREE_BATCH, FREE_TOKENS)),)
    formats: tuple[tuple[str, str], ...] = ()
    lineage: tuple[str, ...] = ()

    # -- looking things up -----------------------------------------------------------------------------------------

    @functools.cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Nodes by id."""
        return MappingProxyType({n.id: n for n in self.nodes})

    def node(self, node_id: str) -> Node:
        """The node of that id; raises UnknownName with a suggestion."""
        if node_id not in self.by_id:
            raise UnknownName("node", node_id, self.by_id)
        return self.by_id[node_id]

    @functools.cached_property
    def blocks(self) -> Mapping[str, tuple[str, ...]]:
        """Block ids of each region in order of position; a block that only refers to another has no position."""
        own = {(n.region, n.block) for n in self.nodes if not n.owner and any(True for _ in n.op.params())}
        refer = {(n.region, n.block) for n in self.nodes if n.owner} - own
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes:
            if node.block and (node.region, node.block) not in refer:
                found.setdefault(node.region, {})[node.block] = None
        return {region: tuple(blocks) for region, blocks in found.items()}

    def block_nodes(self, region: str, block: str) -> tuple[Node, ...]:
        """The nodes of one block."""
        return self._by_block.get((region, block), ())

    @functools.cached_property
    def _by_block(self) -> Mapping[tuple[str, str], tuple[Node, ...]]:
        found: dict[tuple[str, str], list[Node]] = {}
        for node in self.nodes:
            found.setdefault((node.region, node.block), []).append(node)
        return {place: tuple(nodes) for place, nodes in found.items()}

    @functools.cached_property
    def scopes(self) -> Mapping[str, str]:
        """Scope of every node: where its parameters (its owner's, if it refers) live."""
        position = {(r, b): i for r, blocks in self.blocks.items() for i, b in enumerate(blocks)}
        own = {n.id: f"{n.region}.{position[n.region, n.block]}.{n.role}" if (n.region, n.block) in position else n.id
               for n in self.nodes if not n.owner}  # fmt: skip
        return {n.id: own.get(n.owner or n.id, n.id) for n in self.nodes}

    def scope(self, node_id: str) -> str:
        """Scope of one node."""
        return self.scopes[self.node(node_id).id]

    @functools.cached_property
    def dims(self) -> Mapping[str, Dim]:
        """Every dim by name, outer dims first."""
        return MappingProxyType(all_dims(n.op for n in self.nodes))

    def ops(self, kind: type[OpT]) -> Iterator[OpT]:
        """The ops of one class, in order."""
        return (n.op for n in self.nodes if isinstance(n.op, kind))

    def params(self) -> Iterator[tuple[Node, Param]]:
        """Owned parameters with their nodes: each once, however many nodes use it."""
        for node in self.nodes:
            if not node.owner:
                for param in node.op.params():
                    yield node, param

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every owned parameter by its key `<scope>.<param>`."""
        return {f"{self.scopes[n.id]}.{p.name}": p.shape for n, p in self.params()}

    @property
    def mtp_steps(self) -> int:
        """How many steps of multi-token prediction there are: outputs `mtp.1`, `mtp.2`, ..."""
        return sum(name.startswith("mtp.") for name, _ in self.outputs)

    def in_mtp(self, node: Node) -> bool:
        """Whether a node serves multi-token prediction only."""
        return node.region == MTP_LAYERS or node.id.startswith("mtp")

    def weight_format(self, node: Node, param: str) -> str:
        """Format in which a parameter is stored: its own, or the graph's."""
        return dict(node.formats).get(param) or dict(self.formats).get("weights", "bf16")

    @functools.cached_property
    def nx(self) -> networkx.MultiDiGraph:
        """The networkx form (a copy for traversal, hashing and drawing): edge keys are input positions."""
        import networkx

        graph = networkx.MultiDiGraph(name=self.name)
        graph.add_nodes_from((name, {"kind": "input"}) for name, _ in self.inputs)
        for node in self.nodes:
            graph.add_node(node.id, kind=node.op.kind, node=node)
            graph.add_edges_from((src, node.id, i) for i, src in enumerate(node.inputs))
        return graph

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of the text form, name and lineage left out: what the model is, not where it comes from."""
        from archc.ir.text import print_graph

        return hashlib.sha256(print_graph(dataclasses.replace(self, name="_", lineage=())).encode()).hexdigest()

    @property
    def short_hash(self) -> str:
        """The digits of `hash` by which a lineage names a graph."""
        return self.hash[:SHORT_HASH]

    @property
    def ancestry(self) -> frozenset[str]:
        """This graph and those it was made from."""
        return frozenset((self.short_hash, *self.lineage))

    def cost(self, profile: HardwareProfile | None = None, **workload: Any) -> CostSheet:
        """What the model costs: `workload` is what `archc.ir.cost.cost_sheet` takes (context, batch, format, ...)."""
        from archc.ir.cost import cost_sheet

        return cost_sheet(self, profile, **workload)

    # -- building new graphs ---------------------------------------------------------------------------------------

    def made_from(self, parent: Graph) -> Self:
        """This graph as a pass made it from `parent`; one that is as it was keeps its lineage."""
        before = dataclasses.replace(self, lineage=parent.lineage)
        return before if before == parent else dataclasses.replace(self, lineage=(*parent.lineage, parent.short_hash))

    def with_dims(self, change: Callable[[Dim], Dim]) -> Self:
        """The graph with every dim replaced."""
        nodes = (dataclasses.replace(n, op=n.op.with_dims(change)) for n in self.nodes)
        return dataclasses.replace(self, nodes=tuple(nodes))

    def without_blocks(self, blocks: Iterable[tuple[str, str]]) -> Self:
        """The graph without some (region, block)s: what used a block's result uses the block's input instead.

        Raises GraphError when a dropped block owns parameters that a kept node refers to.
        """
        dropped = set(blocks)
        passed: dict[str, str] = {}
        kept: list[Node] = []
        for node in self.nodes:
            inputs = tuple(passed.get(i, i) for i in node.inputs)
            if (node.region, node.block) in dropped:
                passed[node.id] = inputs[0]
            else:
                kept.append(dataclasses.replace(node, inputs=inputs))
        self._check_owners(kept)
        outputs = tuple((name, passed.get(i, i)) for name, i in self.outputs)
        return dataclasses.replace(self, nodes=tuple(kept), outputs=outputs)

    def _check_owners(self, kept: list[Node]) -> None:
        ids = {n.id for n in kept}
        for node in kept:
            if node.owner and node.owner not in ids:
                raise GraphError(f"`{node.id}` uses the parameters of `{node.owner}`, which is dropped")
