"""The text form of a graph: readable, line-oriented, and it parses back to an equal graph.

    archc graph 1
    name tiny
    dim vocab = 256 fixed
    dim d_model = 64
    dim L0.mixer.d_ff = 128
    input tokens [batch, tokens]
    embedding = embedding(tokens)
    layers:
      L0.norm = rms_norm(embedding) {eps=1e-06}
      L0.mixer = mlp(L0.norm) {activation=relu2} formats(up_proj=fp8)
      L0.add = add(embedding, L0.mixer)
    norm = rms_norm(L0.add)
    lm_head = lm_head(norm) @embedding
    output logits = lm_head

A role's dim is `<node id>.<role>`, else the owner's, else the graph-wide `<role>`, unless the braces say otherwise; an
attribute that is not printed has its default. `@owner` uses that node's parameters. A graph that passes made has a line
`lineage 0f3a5bd1c2e49876 ...` after its name: the hashes of the graphs before each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Axis, Dim
from archc.ir.graph import SHORT_HASH, Graph, Node
from archc.ir.op import Op, field_types, op_class
from archc.ir.text_line import Line, print_value
from archc.kernels.errors import ArchcError, ParseError, Place, suggestion

VERSION = 1
# The file that holds a graph in a checkpoint, and in an emitted package.
CHECKPOINT_GRAPH, PACKAGE_GRAPH = "model.ir", "graph.ir"
ORDERS = ("free", "pairs", "fixed")
FREE = {d.name: d for d in (FREE_BATCH, FREE_TOKENS)}

# -- printing ----------------------------------------------------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The text form; deterministic."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"archc graph {VERSION}"
    yield f"name {graph.name}"
    if graph.lineage:
        yield "lineage " + " ".join(graph.lineage)
    if graph.formats:
        yield "formats " + " ".join(f"{k}={v}" for k, v in graph.formats)
    for dim in graph.dims.values():
        yield f"dim {dim.name} = {dim.size}" + _dim_tail(dim)
    for name, axes in graph.inputs:
        yield f"input {name} [{', '.join(map(str, axes))}]"
    region = ""
    for node in graph.nodes:
        if node.region != region and node.region:
            yield f"{node.region}:"
        region = node.region
        yield ("  " if region else "") + print_node(node, graph.dims)
    for name, node_id in graph.outputs:
        yield f"output {name} = {node_id}"


def _dim_tail(dim: Dim) -> str:
    within = f" within {dim.within.name}" if dim.within else ""
    order = f" {dim.order}" if dim.order != "free" else ""
    multiple = f" multiple_of {dim.multiple_of}" if dim.multiple_of > 1 else ""
    return within + order + multiple


def print_node(node: Node, dims: Mapping[str, Dim]) -> str:
    """One node's line, without indentation."""
    fields = ", ".join([*_dim_fields(node, dims), *_attribute_fields(node.op)])
    line = f"{node.id} = {node.op.kind}({', '.join(node.inputs)})" + (f" {{{fields}}}" if fields else "")
    if node.owner:
        line += f" @{node.owner}"
    if node.formats:
        line += " formats(" + ", ".join(f"{k}={v}" for k, v in node.formats) + ")"
    return line


def _dim_fields(node: Node, dims: Mapping[str, Dim]) -> Iterator[str]:
    for role in dim_roles(type(node.op)):
        dim = getattr(node.op, role)
        implied = next((dims[n] for n in _implied(node.id, node.owner, role) if n in dims), None)
        if dim != implied:
            yield f"{role}={dim.name if dim else 'none'}"


def _implied(node_id: str, owner: str, role: str) -> tuple[str, ...]:
    """Where a role's dim is looked up when the braces do not name it."""
    return (f"{node_id}.{role}", f"{owner}.{role}", role)


def _attribute_fields(op: Op) -> Iterator[str]:
    defaults = {f.name: f.default for f in dataclasses.fields(op)}
    for name, value in op.attributes.items():
        if value != defaults[name]:
            yield f"{name}={print_value(value)}"


def dim_roles(op: type[Op]) -> tuple[str, ...]:
    """The fields of an op that hold dims."""
    return tuple(name for name, kind in field_types(op).items() if Dim in (kind, *getattr(kind, "__args__", ())))


# -- parsing -----------------------------------------------------------------------------------------------------------


class _Parser:
    def __init__(self, file: str) -> None:
        self.file = file
        self.name = ""
        self.lineage: tuple[str, ...] = ()
        self.formats: tuple[tuple[str, str], ...] = ()
        self.dims: dict[str, Dim] = {}
        self.nodes: list[Node] = []
        self.inputs: list[tuple[str, tuple[Axis, ...]]] = []
        self.outputs: list[tuple[str, str]] = []
        self.region = ""

    def parse(self, text: str) -> Graph:
        lines = [Line(self.file, i, line) for i, line in enumerate(text.splitlines(), 1) if _content(line)]
        if not lines:
            raise ParseError(Place(self.file, 1, 1), f"empty: expected `archc graph {VERSION}`")
        self._header(lines[0])
        for line in lines[1:]:
            self._statement(line)
            line.end()
        nodes, outputs, inputs = tuple(self.nodes), tuple(self.outputs), tuple(self.inputs)
        return Graph(self.name, nodes, outputs, inputs, self.formats, self.lineage)

    def _header(self, line: Line) -> None:
        line.expect("archc")
        line.expect("graph")
        version = line.integer("the version of the text form")
        if version != VERSION:
            raise line.error(f"version {version} of the text form is unknown: this archc reads {VERSION}", 1)
        line.end()

    def _statement(self, line: Line) -> None:
        if line.text[0].isspace():
            if not self.region:
                raise line.error("an indented line stands in no region", 1, "did you mean to open `layers:` before it?")
            self._node(line)
            return
        first = line.word("a statement")
        if line.take(":"):
            self.region = first
            return
        self.region = ""
        # A keyword that is followed by `=` is a node of that name.
        handler = None if line.peek() == "=" else getattr(self, f"_{first}_line", None)
        if handler is not None:
            handler(line)
            return
        line.at = 0
        self._node(line)

    def _name_line(self, line: Line) -> None:
        self.name = line.word("a name")

    def _lineage_line(self, line: Line) -> None:
        if self.lineage:
            raise line.error("`lineage` is given twice", 1)
        found = [line.digits(SHORT_HASH)]
        while not line.done:
            found.append(line.digits(SHORT_HASH))
        self.lineage = tuple(found)

    def _formats_line(self, line: Line) -> None:
        found = []
        while not line.done:
            key = line.word("a class of values")
            line.expect("=")
            found.append((key, line.word("a format")))
        self.formats = tuple(found)

    def _input_line(self, line: Line) -> None:
        name = line.word("an input name")
        line.expect("[")
        axes = []
        while not line.take("]"):
            axes.append(self._dim(line, line.word("a dim")))
            if line.peek() != "]":
                line.expect(",")
        self.inputs.append((name, tuple(axes)))

    def _dim_line(self, line: Line) -> None:
        column = line.tokens[line.at].column if not line.done else None
        name = line.word("a dim name")
        if name in self.dims:
            raise line.error(f"dim `{name}` is declared twice", column)
        line.expect("=")
        size = line.integer("a size")
        within = self._dim(line, line.word("a dim")) if line.take("within") else None
        order = line.word("an order") if line.peek() in ORDERS else "free"
        multiple = line.integer("a number") if line.take("multiple_of") else 1
        try:
            self.dims[name] = Dim(name, size, within, order, multiple)  # type: ignore[arg-type]
        except ArchcError as error:
            raise line.error(str(error), column) from error

    def _output_line(self, line: Line) -> None:
        name = line.word("an output name")
        line.expect("=")
        self.outputs.append((name, line.word("a node")))

    def _dim(self, line: Line, name: str) -> Dim:
        found = FREE.get(name) or self.dims.get(name)
        if found is None:
            line.at -= 1
            raise line.error(f"unknown dim `{name}`{suggestion(name, [*self.dims, *FREE])}")
        return found

    def _node(self, line: Line) -> None:
        node_id = line.word("a node id")
        line.expect("=")
        op_type = self._op_class(line)
        inputs = self._inputs(line)
        types = field_types(op_type)
        given = dict(line.pairs(types)) if line.peek() == "{" else {}
        owner = line.word("a node id") if line.take("@") else ""
        fields = {**given, **dict(self._roles(line, node_id, owner, op_type, given))}
        formats = self._node_formats(line)
        block, _, role = node_id.rpartition(".") if self.region else ("", "", node_id)
        if self.region and not block:
            raise line.error(f"`{node_id}` stands in region `{self.region}`: its id must be `<block>.<role>`", 1)
        op = line.make(op_type, fields)
        self.nodes.append(Node(role, op, inputs, self.region, block, owner, formats))

    def _op_class(self, line: Line) -> type[Op]:
        name = line.word("an op")
        try:
            return op_class(name)
        except ArchcError as error:
            line.at -= 1
            raise line.error(str(error)) from error

    def _inputs(self, line: Line) -> tuple[str, ...]:
        line.expect("(")
        inputs = []
        while not line.take(")"):
            inputs.append(line.word("an input"))
            if line.peek() != ")":
                line.expect(",")
        return tuple(inputs)

    def _roles(
        self, line: Line, node_id: str, owner: str, op: type[Op], given: Mapping[str, Any]
    ) -> Iterator[tuple[str, Dim | None]]:
        for role in dim_roles(op):
            names = (given[role],) if role in given else _implied(node_id, owner, role)
            dim = next((self.dims[n] for n in names if n in self.dims), None)
            if given.get(role) is not None and dim is None:
                raise line.error(f"unknown dim `{given[role]}`{suggestion(str(given[role]), self.dims)}")
            optional = type(None) in getattr(field_types(op)[role], "__args__", ())
            if dim is None and not optional:
                told = f"declare `dim {node_id}.{role} = ...` or `dim {role}`"
                raise line.error(f"`{op.kind}` needs a dim `{role}`: {told}", 1)
            yield role, dim

    def _node_formats(self, line: Line) -> tuple[tuple[str, str], ...]:
        if not line.take("formats"):
            return ()
        line.expect("(")
        found = []
        while not line.take(")"):
            name = line.word("a parameter")
            line.expect("=")
            found.append((name, line.word("a format")))
            if line.peek() != ")":
                line.expect(",")
        return tuple(found)


def _content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def parse_graph(text: str, *, file: str = "<text>") -> Graph:
    """The graph that a text form describes; raises ParseError with line, column and a caret.

    The graph is not verified: `archc.ir.verify.verify` does that.
    """
    return _Parser(file).parse(text)
