"""The structure of a language model as its graph has it: what stands before the layers, the form of a block, what
follows, and the region of multi-token prediction. Graphs of another form are refused with the reason.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from archc.codegen.named import ATOM, named
from archc.codegen.names import checked
from archc.codegen.printer import Line, expression
from archc.codegen.trace import trace
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.kernels.errors import UnsupportedError

Call = Callable[[Node, Sequence[str]], str]


@dataclass(frozen=True)
class Blocks:
    """The blocks of a region in order, each its nodes."""

    region: str
    blocks: tuple[tuple[Node, ...], ...]

    @property
    def modules(self) -> tuple[tuple[Node, ...], ...]:
        """The nodes of each block that are modules of their own."""
        return tuple(tuple(n for n in block if is_module(n)) for block in self.blocks)


@dataclass(frozen=True)
class Step:
    """One step of multi-token prediction: the shift of the embeddings, the joint, the blocks, the final norm."""

    shift: Node
    joint: Node
    blocks: Blocks
    norm: Node


@dataclass(frozen=True)
class Structure:
    """A decoder: `stem` makes the stream, `layers` work on it, `final` gives the hidden states, `head` the logits."""

    stem: tuple[Node, ...]
    layers: Blocks
    final: tuple[Node, ...]
    head: tuple[Node, ...]
    steps: tuple[Step, ...]


def is_module(node: Node) -> bool:
    """Whether a node is a module of the emitted class: it owns or uses parameters."""
    return any(True for _ in node.op.params())


def structure(graph: Graph) -> Structure:
    """Read the structure off a graph; raises UnsupportedError where it is not a decoder of archc's form."""
    if [name for name, _ in graph.inputs] != ["tokens"]:
        raise UnsupportedError(f"graph `{graph.name}`: emitted packages take one input, `tokens`")
    outputs = dict(graph.outputs)
    for name in ("hidden", "logits"):
        if name not in outputs:
            raise UnsupportedError(f"graph `{graph.name}` has no output `{name}`: it cannot be emitted")
    layers = _blocks(graph, LAYERS, [n for n in graph.nodes if n.region == LAYERS])
    if not layers.blocks:
        raise UnsupportedError(f"graph `{graph.name}` has no layers")
    first, last = layers.blocks[0], layers.blocks[-1][-1].id
    entry = _entry(first)
    stem = _between(graph, "tokens", entry)
    final = _between(graph, last, outputs["hidden"])
    head = _between(graph, outputs["hidden"], outputs["logits"])
    steps = _steps(graph, [i for name, i in graph.outputs if name.startswith("mtp.")])
    covered = {n.id for part in (stem, final, head, *layers.blocks) for n in part}
    covered |= {n.id for s in steps for part in ((s.shift, s.joint, s.norm), *s.blocks.blocks) for n in part}
    left = [n.id for n in graph.nodes if n.id not in covered]
    if left:
        raise UnsupportedError(f"graph `{graph.name}` has nodes that no part of a decoder holds: {', '.join(left)}")
    return Structure(stem, layers, final, head, steps)


def _between(graph: Graph, start: str, end: str) -> tuple[Node, ...]:
    """The free nodes that lead from a value to another and need nothing else."""
    found: list[Node] = []
    needed = {end}
    for node in reversed(graph.nodes):
        if node.id in needed and node.id != start:
            if node.block:
                raise UnsupportedError(f"`{end}` needs `{node.id}`, which is not the last value of its block")
            found.insert(0, node)
            needed.update(node.inputs)
    return tuple(found)


def _blocks(graph: Graph, region: str, nodes: Sequence[Node]) -> Blocks:
    """Blocks of a region, checked to form a chain: each takes only the last value of the one before."""
    by_block: dict[str, list[Node]] = {}
    for node in nodes:
        by_block.setdefault(node.block, []).append(node)
    blocks = tuple(tuple(block) for block in by_block.values())
    for before, block in itertools.pairwise(blocks):
        if _entry(block) != before[-1].id:
            raise UnsupportedError(f"block `{block[0].block}` does not continue block `{before[0].block}`")
    return Blocks(region, blocks)


def _entry(block: Sequence[Node]) -> str:
    """The one value that a block takes."""
    inside = {n.id for n in block}
    taken = list(dict.fromkeys(i for n in block for i in n.inputs if i not in inside))
    if len(taken) != 1:
        raise UnsupportedError(f"block `{block[0].block}` takes {len(taken)} values ({', '.join(taken)}): expected one")
    return taken[0]


def _steps(graph: Graph, ends: Sequence[str]) -> tuple[Step, ...]:
    """The steps of multi-token prediction that end in the given nodes."""
    found: list[Step] = []
    nodes = [n for n in graph.nodes if graph.in_mtp(n)]
    hidden, embedded = dict(graph.outputs)["hidden"], ""
    for number, end in enumerate(ends, 1):
        at = [n.id for n in nodes].index(end) + 1
        step, nodes = _step(graph, nodes[:at]), nodes[at:]
        embedded = embedded or step.shift.inputs[0]
        expected = ((hidden, step.shift.id), (embedded,), number)
        if (step.joint.inputs, step.shift.inputs, step.shift.op.attributes.get("steps")) != expected:
            raise UnsupportedError(f"step {number} of multi-token prediction does not continue the step before")
        if found and _uses(step) != _owners(found[0]):
            raise UnsupportedError(f"step {number} of multi-token prediction has parameters of its own")
        found.append(step)
        hidden = end
    return tuple(found)


def _step(graph: Graph, nodes: Sequence[Node]) -> Step:
    form = "a step of multi-token prediction must be a shift, a joint, blocks and a norm, in a chain"
    free = [n for n in nodes if not n.block]
    inside = [n for n in nodes if n.block]
    if len(free) != 3 or not inside:
        raise UnsupportedError(form)
    shift, joint, norm = free
    blocks = _blocks(graph, MTP_LAYERS, inside)
    chained = _entry(blocks.blocks[0]) == joint.id and norm.inputs == (blocks.blocks[-1][-1].id,)
    if not chained or is_module(shift):
        raise UnsupportedError(form)
    return Step(shift, joint, blocks, norm)


def _parts(step: Step) -> tuple[Node, ...]:
    return (step.joint, *(n for block in step.blocks.modules for n in block), step.norm)


def _uses(step: Step) -> tuple[str, ...]:
    return tuple(n.owner for n in _parts(step))


def _owners(step: Step) -> tuple[str, ...]:
    return tuple(n.id for n in _parts(step))


def straight(nodes: Sequence[Node], start: Mapping[str, str], call: Call) -> list[Line]:
    """Nodes as code that returns the last one's value; `start` gives the code of values from outside.

    A value used once, by a call, is written where it is used; another is assigned to the variable of the stream, or
    to one named after its role.
    """
    uses = [i for n in nodes for i in n.inputs]
    known: dict[str, str] = dict(start)
    lines: list[Line] = []
    for node in nodes:
        if missing := [i for i in node.inputs if i not in known]:
            raise UnsupportedError(f"`{node.id}` needs `{missing[0]}`, which is not at hand where it stands")
        code, atomic = _value(node, [known[i] for i in node.inputs], call)
        if node is nodes[-1]:
            lines.append(Line((), code))
        elif uses.count(node.id) == 1 and atomic:
            known[node.id] = code
        else:
            known[node.id] = _variable(node, nodes, known, start)
            lines.append(Line((known[node.id],), code))
    return lines


def _variable(node: Node, nodes: Sequence[Node], known: Mapping[str, str], start: Mapping[str, str]) -> str:
    """The stream's own name once what held it is no longer needed, else the role."""
    later = nodes[nodes.index(node) + 1 :]
    for value, name in start.items():
        holders = {i for i, code in known.items() if code == name} | {value}
        if name.isidentifier() and not any(i in holders for n in later for i in n.inputs):
            return name
    return checked("role", node.role)


def _value(node: Node, inputs: Sequence[str], call: Call) -> tuple[str, bool]:
    if is_module(node):
        return call(node, inputs), True
    code, binds = inline(node, inputs, {})
    return code, binds == ATOM


def inline(node: Node, inputs: Sequence[str], names: Mapping[str, str]) -> tuple[str, int]:
    """A node's maths as one expression and how tightly it binds; `names` stand for its parameters and numbers."""
    numbers = {k: named(v, names[k]) for k, v in node.op.attributes.items() if k in names}
    traced = trace(node.op, numbers)
    code = expression(traced, {**names, **dict(zip(traced.inputs, inputs, strict=True))})
    given = re.findall(r"self\.\w+", " ".join([*inputs, *names.values()]))
    if code is None or not set(re.findall(r"self\.\w+", code[0])) <= set(given):
        raise UnsupportedError(f"`{node.id}` ({node.op.kind}) cannot be written as one expression of its inputs")
    return code
