"""What a graph costs: distinct (op, sizes, formats) times how many nodes share them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from archc.ir.arithmetic import Number, plain
from archc.ir.cost_op import STATE_CLASSES, OpCost, op_cost
from archc.ir.graph import Graph, Node
from archc.ir.workload import FormatChoice, Workload, bytes_env


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that cost the same: equal expressions, sizes and part in the graph."""

    cost: OpCost
    sizes: Mapping[str, int]
    mtp: bool
    owns: bool
    nodes: list[Node] = field(default_factory=list)

    def evaluate(self, env: Mapping[str, Any], *names: str) -> list[Any]:
        """The values of the named expressions for one node."""
        return self.cost.evaluate({**env, **self.sizes}, *names)


@dataclass(frozen=True)
class LiveSet:
    """What lives while one node runs: bytes for each token of a call, and for each position with logits."""

    token_bytes: Fraction | int
    logits_bytes: Fraction | int


@dataclass(frozen=True)
class Costed:
    """A graph with chosen formats, ready to be costed under any workload.

    `mtp` says whether its multi-token prediction, if any, is kept in memory.
    """

    graph: Graph
    choice: FormatChoice
    mtp: bool = True

    @functools.cached_property
    def formats(self) -> dict[str, str]:
        """The format of every class."""
        return self.choice.of(self.graph)

    @functools.cached_property
    def env(self) -> dict[str, Any]:
        """Bytes of an element by class and by format."""
        return dict(bytes_env(self.formats))

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of their first nodes."""
        found: dict[Any, Group] = {}
        for node in self.graph.nodes:
            mtp, cost = self.graph.in_mtp(node), self.node_cost(node)
            key = (id(cost), node.op.sizes, mtp, not node.owner)
            if key not in found:
                sizes = {role: d.size for role, d in node.op.dims.items()}
                found[key] = Group(cost, sizes, mtp, not node.owner)
            found[key].nodes.append(node)
        return tuple(found.values())

    def node_cost(self, node: Node) -> OpCost:
        """The cost expressions of a node in the chosen formats."""
        return op_cost(node.op, self._owner(node).formats if self.choice.keeps_own else ())

    def _owner(self, node: Node) -> Node:
        return self.graph.node(node.owner) if node.owner else node

    def sum(self, name: str, env: Mapping[str, Any], where: Callable[[Group], bool]) -> Number:
        """The sum of one expression over the nodes of the groups chosen."""
        chosen = [g for g in self.groups if where(g)]
        return plain(sum(len(g.nodes) * g.evaluate({**self.env, **env}, name)[0] for g in chosen))

    # -- parameters and memory -----------------------------------------------------------------------------------------

    def params(self, name: str = "params", *, mtp: bool = False) -> int:
        """Parameters (`params` or `active`) of the model, or of its multi-token prediction, each once."""
        return int(self.sum(name, {}, lambda g: g.owns and g.mtp == mtp))

    @functools.cached_property
    def untied_embedding(self) -> int:
        """Elements of looked-up parameters that no other node uses."""
        return sum(math.prod(p.shape) for n in self.looked_up for p in n.op.params() if p.lookup)

    @property
    def looked_up(self) -> Iterator[Node]:
        """Nodes whose parameters are looked up in, and that no other node uses."""
        used = {n.owner for n in self.graph.nodes}
        mine = (n for n in self.graph.nodes if not n.owner and n.id not in used and not self.graph.in_mtp(n))
        return (n for n in mine if any(p.lookup for p in n.op.params()))

    @functools.cached_property
    def weights_bytes(self) -> int:
        """Bytes of all parameters in memory, each once."""
        return math.ceil(self.sum("weight_bytes", {}, lambda g: g.owns and (self.mtp or not g.mtp)))

    def state_bytes(self, context: int, *, mtp: bool = False) -> dict[str, int]:
        """Bytes of state of one sequence at a context, by format class; `mtp`: that of the drafting steps."""
        env = {"context": context}
        return {name: math.ceil(self.sum(name, env, lambda g: g.mtp == mtp)) for name in STATE_CLASSES}

    @functools.cached_property
    def live_sets(self) -> tuple[LiveSet, ...]:
        """The distinct live sets of a serving call, one a node: what later nodes still need, and what it computes."""
        elements: dict[str, tuple[bool, int, int]] = {}
        for group in self.groups:
            output, inside = group.evaluate(self.env, "output", "inside")
            elements.update((node.id, (group.cost.at_logits, output, inside)) for node in group.nodes)
        each = self.env["bytes.activations"]
        return tuple(dict.fromkeys(_live(elements, node, ids, each) for node, ids in live_values(self.graph)))

    def activation_bytes(self, workload: Workload, batch: int) -> int:
        """The largest live set of one call: a prefill chunk, or a decode step of the batch."""
        tokens = workload.call_tokens(batch)
        return max(math.ceil(s.token_bytes * tokens + s.logits_bytes * batch) for s in self.live_sets)


def serves(group: Group) -> bool:
    """Whether a plain serving step runs the group's nodes: all but multi-token prediction."""
    return not group.mtp


def live_values(graph: Graph) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Every serving node with the ids of the values that live while it runs, its own among them.

    A value lives from the node that makes it to the last that uses it."""
    nodes = [n for n in graph.nodes if not graph.in_mtp(n)]
    last = {source: i for i, node in enumerate(nodes) for source in node.inputs}
    alive: list[str] = []
    for i, node in enumerate(nodes):
        alive.append(node.id)
        yield node, tuple(alive)
        alive = [source for source in alive if last.get(source, -1) > i]


def _live(elements: Mapping[str, tuple[bool, int, int]], node: Node, ids: Iterable[str], each: Fraction) -> LiveSet:
    """The live set of a node: outputs of `ids` and the node's own values inside."""
    totals = {True: 0, False: 0}
    for source in ids:
        at_logits, output, _ = elements[source]
        totals[at_logits] += output
    at_logits, _, inside = elements[node.id]
    totals[at_logits] += inside
    return LiveSet(totals[False] * each, totals[True] * each)
