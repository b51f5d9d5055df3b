"""What exports of a graph share: which blocks are equal and folded, and how nodes, parameters and values read.

A fold is drawn once, by its first round. `Outline.shown` says which node stands for each of a graph's, so that an
export draws the nodes it shows and takes every edge from whoever stands for its source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from archc.ir.dims import Axis
from archc.ir.expr import Expr
from archc.ir.graph import Graph, Node
from archc.ir.op import Op, Param
from archc.ir.text_line import value_words
from archc.viz.block import axis_text
from archc.viz.fold import Fold, fold
from archc.viz.layers import number_list

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay, Value

FEW = 3  # so many layers or fewer are drawn one by one though they repeat
_AT_MOST = 6  # places of layers that are listed
_WIDEST = 40  # characters of sizes in a line of a label

# -- which blocks are equal --------------------------------------------------------------------------------------------


def region_blocks(graph: Graph, region: str) -> tuple[str, ...]:
    """Every block of a region in order, also those that only refer to others."""
    return tuple(dict.fromkeys(node.block for node in graph.nodes if node.block and node.region == region))


def blocks_folded(graph: Graph, region: str) -> tuple[Fold, ...]:
    """The blocks of a region (`region_blocks`) folded where they repeat."""
    keys = _Keys(graph, region)
    return fold([keys.key(i) for i in range(len(keys.blocks))])


class _Keys:
    """What two blocks of a region share when one picture does for both.

    Every op's kind, sizes, attributes and formats; whose parameters it uses; where its inputs come from; and what
    takes values out of the block other than the next one."""

    def __init__(self, graph: Graph, region: str) -> None:
        self.graph = graph
        self.blocks = [graph.block_nodes(region, block) for block in region_blocks(graph, region)]
        self.users: dict[str, list[str]] = {}
        for node in graph.nodes:
            for source in node.inputs:
                self.users.setdefault(source, []).append(node.id)
        for name, source in graph.outputs:
            self.users.setdefault(source, []).append(f"output {name}")

    def key(self, i: int) -> Hashable:
        return tuple(self._node(i, node) for node in self.blocks[i]), self._taken(i)

    def _node(self, i: int, node: Node) -> Hashable:
        formats = tuple(self.graph.weight_format(node, param.name) for param in node.op.params())
        inputs = tuple(self._source(i, source) for source in node.inputs)
        return node.role, node.op.key, node.op.sizes, formats, node.owner, inputs

    def _source(self, i: int, source: str) -> tuple[str, str]:
        """Where an input comes from, as seen from the block: the place is the same in every round of a fold."""
        inside = {node.id: node.role for node in self.blocks[i]}
        if source in inside:
            return "inside", inside[source]
        return ("before", "") if source == self._before(i) else ("at", source)

    def _before(self, i: int) -> str:
        """The value that a block is fed: the last of the block before, or the first that comes from outside."""
        if i > 0:
            return self.blocks[i - 1][-1].id
        inside = {node.id for node in self.blocks[i]}
        return next((source for node in self.blocks[i] for source in node.inputs if source not in inside), "")

    def _taken(self, i: int) -> Hashable:
        """Who uses which values of the block, except by its end the next block, or whoever follows the last."""
        own = {node.id for node in self.blocks[i]}
        last = i + 1 == len(self.blocks)
        then = set() if last else {node.id for node in self.blocks[i + 1]}
        return tuple(
            (node.role, user)
            for node in self.blocks[i]
            for user in self.users.get(node.id, ())
            if user not in own and not (node is self.blocks[i][-1] and (last or user in then))
        )


# -- what is drawn -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A block that is drawn, the first of the equal `blocks` it stands for; `where` they stand, in words."""

    region: str
    blocks: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Repeat:
    """Parts that are drawn once and stand `times` times one after the other; `where`, in words."""

    times: int
    parts: tuple[Part, ...]
    where: str


Part: TypeAlias = Drawn | Repeat


def outline(graph: Graph, region: str) -> tuple[Part, ...]:
    """The blocks of a region as they are drawn: repeats of more than a few once."""
    return tuple(_Outliner(graph, region).parts(blocks_folded(graph, region), (0,)))


class _Outliner:
    """Makes the outline of one region."""

    def __init__(self, graph: Graph, region: str) -> None:
        self.region, self.blocks = region, region_blocks(graph, region)
        self.places = places(graph, region)

    def parts(self, folds: Sequence[Fold], shifts: tuple[int, ...]) -> Iterator[Part]:
        """The parts of folds that stand at every one of `shifts`, counted from where they first stand."""
        for one in folds:
            if one.times > 1 and one.total > FEW:
                rounds = tuple(shift + i * one.length for shift in shifts for i in range(one.times))
                yield Repeat(one.times, tuple(self._round(one, rounds)), self._where(one, rounds))
            else:
                for i in range(one.times):
                    yield from self._round(one, tuple(shift + i * one.length for shift in shifts))

    def _round(self, one: Fold, shifts: tuple[int, ...]) -> Iterator[Part]:
        if one.inner:
            yield from self.parts(one.inner, shifts)
        else:
            blocks = tuple(self.blocks[one.start + shift] for shift in shifts)
            yield Drawn(self.region, blocks, self._where(one, shifts))

    def _where(self, one: Fold, shifts: tuple[int, ...]) -> str:
        """Where rounds of a fold stand: `layers 0-2, 7`."""
        blocks = [self.blocks[one.start + shift + i] for shift in shifts for i in range(one.length)]
        given = [self.places[block] for block in blocks]
        numbers = number_list([place for place in given if isinstance(place, int)])
        names = numbers.split(", ") if numbers else []
        names += [place for place in given if isinstance(place, str)]
        shown = names if len(names) <= _AT_MOST else [*names[: _AT_MOST - 2], "...", names[-1]]
        return f"{self.region} {', '.join(shown)}"


def places(graph: Graph, region: str) -> dict[str, int | str]:
    """Every block of a region by where it stands; one that only refers to another has no position, only its id."""
    at = {block: i for i, block in enumerate(graph.blocks.get(region, ()))}
    return {block: at.get(block, block) for block in region_blocks(graph, region)}


def stand_ins(graph: Graph) -> Mapping[str, str]:
    """By the id of every node and input, the one that is drawn for it: itself, or that of the first equal block."""
    found = {name: name for name, _ in graph.inputs} | {node.id: node.id for node in graph.nodes}
    for region in regions(graph):
        for drawn in drawn_blocks(outline(graph, region)):
            first = graph.block_nodes(region, drawn.blocks[0])
            for block in drawn.blocks:
                found |= {a.id: b.id for a, b in zip(graph.block_nodes(region, block), first, strict=True)}
    return found


def regions(graph: Graph) -> tuple[str, ...]:
    """The regions of a graph, in order."""
    return tuple(dict.fromkeys(node.region for node in graph.nodes if node.block))


def standing(graph: Graph) -> Iterator[Node | str]:
    """What stands from top to bottom: nodes in no block, and each region, by name, at its first node.

    Of multi-token prediction only the first step: the others refer to it."""
    seen: set[str] = set()
    for node in graph.nodes:
        if not node.region:
            if not graph.in_mtp(node) or node.id.startswith("mtp."):
                yield node
        elif node.region not in seen:
            seen.add(node.region)
            yield node.region


def drawn_blocks(parts: Sequence[Part]) -> Iterator[Drawn]:
    """Every block that is drawn, in order."""
    for part in parts:
        yield from (part,) if isinstance(part, Drawn) else drawn_blocks(part.parts)


# -- how things read ---------------------------------------------------------------------------------------------------


def title_op(nodes: Sequence[Node]) -> Op:
    """The op that a block is coloured after: the first that a spec can name, else its first."""
    named = [node.op for node in nodes if node.op.Fields is not None]
    return named[0] if named else nodes[0].op


def title(nodes: Sequence[Node]) -> str:
    """The kinds of a block that a spec can name: `attention`."""
    named = [node.op.kind for node in nodes if node.op.Fields is not None]
    return " + ".join(named) or nodes[0].op.kind


def size_lines(nodes: Sequence[Node]) -> Iterator[str]:
    """The sizes of nodes in lines that a box can hold: `d_ff=15680`."""
    line = ""
    for word in (word for node in nodes for word in _sizes(node)):
        if line and len(line) + len(word) >= _WIDEST:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    if line:
        yield line


def _sizes(node: Node) -> Iterator[str]:
    """Dims, that of the stream left out inside a block, and numbers and words that are not usual: `window=128`."""
    yield from (f"{role}={dim.size}" for role, dim in node.op.dims.items() if not node.block or role != "d_model")
    usual = {field.name: field.default for field in dataclasses.fields(node.op)}
    for name, value in node.op.attributes.items():
        if isinstance(value, int | str) and not isinstance(value, bool) and value != usual[name]:
            yield f"{name}={value}"


def shape(axes: Sequence[Axis]) -> list[int | str]:
    """Axes by size; those that a workload gives, by name."""
    return [axis.size or str(axis) for axis in axes]


def shape_text(axes: Sequence[Axis]) -> str:
    """Axes by size, or name, as text: `[batch, tokens, 4480]`."""
    return f"[{', '.join(map(str, shape(axes)))}]"


def axes_text(op: Op, axes: Sequence[Axis | Expr]) -> str:
    """Axes in dims, with sizes: `[z:10240 | x:10240 | dt:128, d_model:5120]`."""
    return f"[{', '.join(str(axis) if isinstance(axis, Expr) else axis_text(op, axis) for axis in axes)}]"


def param_text(graph: Graph, node: Node, param: Param) -> str:
    """A parameter's axes and format; where the node uses another's, whose it is."""
    owner = graph.node(node.owner) if node.owner else node
    of = f" of {node.owner}" if node.owner else ""
    return f"{axes_text(node.op, param.axes)} {graph.weight_format(owner, param.name)}{of}"


def facts(graph: Graph, node: Node) -> Iterator[tuple[str, str]]:
    """Everything about a node in words: place, dims, attributes, parameters, state."""
    yield "scope", graph.scopes[node.id]
    if node.owner:
        yield "uses the parameters of", node.owner
    for role, dim in node.op.dims.items():
        yield role, str(dim.size)
    for name, value in node.op.attributes.items():
        yield name, value_words(value)
    for param in node.op.params():
        yield param.name, param_text(graph, node, param)
    for state in node.op.state():
        each = " a token" if state.stored_tokens is not None else ""
        yield f"state {state.name}", f"{axes_text(node.op, state.shape)}{each}"


def scores(overlays: Sequence[Overlay], node_id: str) -> Iterator[tuple[str, str]]:
    """What overlays say of a node: their title with the dim or parameter they speak of, and the value in words."""
    for overlay in overlays:
        for key, value in overlay.nodes.get(node_id, {}).items():
            yield overlay.title if key == "*" else f"{overlay.title} of {key}", value_text(value)


def value_text(value: Value) -> str:
    """An overlay's value in words; of many numbers the least, the mean and the largest."""
    from archc.viz.overlay import Choices, Units

    if isinstance(value, Units):
        low, high, mean = min(value.values), max(value.values), sum(value.values) / len(value.values)
        return f"{low:.4g} to {high:.4g}, mean {mean:.4g} of {len(value.values)}"
    if isinstance(value, Choices):
        return "one of " + ", ".join(map(str, value.sizes))
    return f"{value:.4g}" if isinstance(value, float) else value.name


def printable(text: str) -> str:
    """Text without what no picture can show: line ends, control characters and marks that turn its direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
