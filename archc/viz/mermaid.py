"""A graph as a Mermaid flowchart, as GitHub draws it in a README: a node for each block, a subgraph for each repeat.

GitHub draws at most 500 edges, so that a block is one node here; its ops are in the other formats.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archc.ir.graph import Graph, Node
from archc.viz import structure
from archc.viz.colours import colour
from archc.viz.structure import Drawn, Part, Repeat, printable

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay


def mermaid(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """A flowchart of a graph. It has no place for the values of overlays."""
    return "\n".join([*_head(graph), *_Drawing(graph).lines(), ""])


def _head(graph: Graph) -> Iterator[str]:
    # Of a title Mermaid drops what could be a tag; it knows no other way to write one.
    title = printable(graph.name).replace("<", "‹").replace(">", "›")
    yield from ("---", f"title: {json.dumps(title)}", "---", "flowchart TB")


class _Drawing:
    """Lines of one graph. Nodes are called n0, n1, ... here: what a name may be, Mermaid does not say."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: dict[str, str] = {}  # by node id and input
        self.kinds: dict[str, list[str]] = {}  # Mermaid's names, by kind
        self.dashed: list[str] = []
        self.counter, self.subgraphs = itertools.count(), itertools.count()
        self.shown = structure.stand_ins(graph)

    def lines(self) -> Iterator[str]:
        """The flowchart's body."""
        for name, axes in self.graph.inputs:
            yield f"  {self.named([name])}([{_label(name, structure.shape_text(axes))}])"
        yield from self.part_of_model(mtp=False)
        if any(map(self.graph.in_mtp, self.graph.nodes)):
            yield from self.subgraph("multi-token prediction", self.part_of_model(mtp=True))
        yield from self.edges()
        yield from self.styles()

    def part_of_model(self, *, mtp: bool) -> Iterator[str]:
        """Nodes outside blocks, and regions, of multi-token prediction or of the model proper."""
        nodes = [node for node in self.graph.nodes if self.graph.in_mtp(node) == mtp]
        yield from (self.box([node], *structure.size_lines([node])) for node in nodes if not node.block)
        for region in dict.fromkeys(node.region for node in nodes if node.block):
            yield from self.parts(structure.outline(self.graph, region))

    def parts(self, parts: Sequence[Part]) -> Iterator[str]:
        for part in parts:
            yield from self.repeat(part) if isinstance(part, Repeat) else self.block(part)

    def repeat(self, repeat: Repeat) -> Iterator[str]:
        yield from self.subgraph(f"x{repeat.times}  {repeat.where}", self.parts(repeat.parts))

    def block(self, drawn: Drawn) -> Iterator[str]:
        nodes = self.graph.block_nodes(drawn.region, drawn.blocks[0])
        yield self.box(nodes, *structure.size_lines(nodes), drawn.where)

    def subgraph(self, label: str, inside: Iterator[str]) -> Iterator[str]:
        """A frame around what is inside."""
        yield f"  subgraph s{next(self.subgraphs)}[{_label(label)}]"
        yield from (f"  {line}" for line in inside)
        yield "  end"

    def box(self, nodes: Sequence[Node], *lines: str) -> str:
        """One node of the flowchart, for a node or all of a block."""
        name = self.named([node.id for node in nodes])
        self.kinds.setdefault(structure.title_op(nodes).kind, []).append(name)
        if any(node.owner for node in nodes):
            self.dashed.append(name)
        return f"  {name}[{_label(structure.title(nodes), *lines)}]"

    def named(self, ids: Sequence[str]) -> str:
        """A new name for what is drawn of these."""
        name = f"n{next(self.counter)}"
        self.names |= dict.fromkeys(ids, name)
        return name

    def edges(self) -> Iterator[str]:
        """Edges between what is drawn, each once, and to the outputs."""
        found = {
            (self.names[self.shown[source]], self.names[node.id]): None
            for node in self.graph.nodes
            if node.id in self.names
            for source in node.inputs
        }
        yield from (f"  {source} --> {target}" for source, target in found if source != target)
        for i, (name, source) in enumerate(self.graph.outputs):
            yield f"  {self.names[self.shown[source]]} --> out{i}([{_label(name)}])"

    def styles(self) -> Iterator[str]:
        for kind, names in self.kinds.items():
            look = colour(kind)
            yield f"  classDef {kind} fill:{look.fill},stroke:#5b6470,color:{look.ink}"
            yield f"  class {','.join(names)} {kind}"
        yield from (f"  style {name} stroke-dasharray:4 3" for name in self.dashed)


def _label(*lines: str) -> str:
    """Lines as a quoted label: whatever is not plain is written by its number, so that nothing is markup."""
    return '"' + "<br/>".join("".join(map(_character, printable(line))) for line in lines) + '"'


def _character(c: str) -> str:
    if c == "\\":
        return "#92;#8288;"  # with an invisible joiner: `\\n` would be the end of a line
    return c if c.isalnum() or c in " _=,:" else f"#{ord(c)};"
