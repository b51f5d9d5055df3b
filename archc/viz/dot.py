"""A graph as Graphviz text: `dot -Tsvg`. A block is a cluster with its ops in it, a repeat a cluster of blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archc.ir.graph import Graph, Node
from archc.viz import structure
from archc.viz.colours import colour
from archc.viz.structure import Drawn, Part, Repeat, printable

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay

_HEAD = """\
  graph [fontname="Helvetica", labeljust=l, labelloc=t, newrank=true, ranksep=0.25, nodesep=0.35]
  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", color="#5b6470", height=0.35]
  edge [color="#5b6470", arrowsize=0.6]
"""
_PLAIN = 'shape=plaintext, style=""'
_RESIDUAL = "penwidth=2.5, weight=10"


def dot(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """Graphviz text of a graph. Values of overlays stand in tooltips."""
    return "\n".join(
        [f"digraph {_quoted(graph.name)} {{", f"{_HEAD}  label={_quoted(graph.name)}", *_body(graph, overlays), "}", ""]
    )


def _body(graph: Graph, overlays: Sequence[Overlay]) -> Iterator[str]:
    drawing = _Drawing(graph, overlays)
    for name, axes in graph.inputs:
        yield f"  {_quoted(name)} [label={_quoted(name, structure.shape_text(axes))}, {_PLAIN}]"
    yield from drawing.part_of_model(mtp=False)
    if any(map(graph.in_mtp, graph.nodes)):
        yield from drawing.cluster(["multi-token prediction"], drawing.part_of_model(mtp=True), "dashed")
    yield from drawing.edges()
    for name, source in graph.outputs:
        output = _quoted(f"output {name}")
        yield f"  {output} [label={_quoted(name)}, {_PLAIN}]"
        yield f"  {_quoted(drawing.shown[source])} -> {output}"


class _Drawing:
    """Lines of the parts of one graph."""

    def __init__(self, graph: Graph, overlays: Sequence[Overlay]) -> None:
        self.graph, self.overlays = graph, overlays
        self.shown = structure.stand_ins(graph)
        self.standing: dict[str, list[str]] = {}
        for name, by in self.shown.items():
            self.standing.setdefault(by, []).append(name)
        self.clusters = itertools.count()

    def part_of_model(self, *, mtp: bool) -> Iterator[str]:
        """Nodes outside blocks, and regions, of multi-token prediction or of the model proper."""
        nodes = [node for node in self.graph.nodes if self.graph.in_mtp(node) == mtp]
        for node in nodes:
            if not node.block:
                yield self.node(node)
        for region in dict.fromkeys(node.region for node in nodes if node.block):
            yield from self.parts(structure.outline(self.graph, region))

    def parts(self, parts: Sequence[Part]) -> Iterator[str]:
        for part in parts:
            yield from self.repeat(part) if isinstance(part, Repeat) else self.block(part)

    def repeat(self, repeat: Repeat) -> Iterator[str]:
        yield from self.cluster([f"x{repeat.times}", repeat.where], self.parts(repeat.parts), "rounded,bold")

    def block(self, drawn: Drawn) -> Iterator[str]:
        nodes = self.graph.block_nodes(drawn.region, drawn.blocks[0])
        ground = colour(structure.title_op(nodes).kind).fill
        label = [structure.title(nodes), drawn.where]
        look = f'fillcolor="{ground}40"; color="{ground}"'
        yield from self.cluster(label, map(self.node, nodes), "rounded,filled", look)

    def cluster(self, label: Sequence[str], inside: Iterator[str], style: str, more: str = "") -> Iterator[str]:
        """A box around what is inside."""
        yield f"  subgraph cluster_{next(self.clusters)} {{"
        yield f'  label={_quoted("  ".join(label))}; style="{style}"; {more}'
        yield from (f"  {line}" for line in inside)
        yield "  }"

    def node(self, node: Node) -> str:
        look = colour(node.op.kind)
        label = _quoted(node.op.kind, *structure.size_lines([node]))
        style = ', style="rounded,filled,dashed"' if node.owner else ""
        return (
            f'  {_quoted(node.id)} [label={label}, fillcolor="{look.fill}", fontcolor="{look.ink}", '
            f"tooltip={_quoted(*self.tooltip(node))}{style}]"
        )

    def tooltip(self, node: Node) -> Iterator[str]:
        """All about a node, and what overlays say of every node that it stands for."""
        yield node.id
        yield from (f"{key}: {value}" for key, value in structure.facts(self.graph, node))
        for name in self.standing[node.id]:
            yield from (f"{name} {key}: {value}" for key, value in structure.scores(self.overlays, name))

    def edges(self) -> Iterator[str]:
        for node in self.graph.nodes:
            if self.shown[node.id] != node.id:
                continue
            for source in node.inputs:
                style = f" [{_RESIDUAL}]" if self.residual(node, source) else ""
                yield f"  {_quoted(self.shown[source])} -> {_quoted(node.id)}{style}"

    def residual(self, node: Node, source: str) -> bool:
        """Whether an edge goes past a block's other ops: from outside to the op that ends it."""
        inside = self.graph.block_nodes(node.region, node.block) if node.block else ()
        return len(inside) > 1 and node is inside[-1] and all(source != other.id for other in inside)


def _quoted(*lines: str) -> str:
    """Lines as a string of the language, in which a backslash begins a word of its own and `&` an entity."""
    escaped = (printable(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines)
    return '"' + "\\n".join(escaped) + '"'
