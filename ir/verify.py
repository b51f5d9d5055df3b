"""Verification: what must hold of every graph. Identities of dims are compared, never sizes."""

from __future__ import annotations

from collections.abc import Iterator

from archc.ir.dims import Axis, same_axis
from archc.ir.formats import get_format
from archc.ir.graph import Graph, Node
from archc.ir.op import describe
from archc.kernels.errors import ArchcError, GraphError

OUTPUT_CLASSES = ("weights", "kv", "ssm", "conv", "activations")


def verify(graph: Graph) -> Graph:
    """Return the graph if it holds together; raise one GraphError that lists everything wrong with it."""
    problems = list(_problems(graph))
    if problems:
        raise GraphError(f"graph `{graph.name}` does not hold together:\n" + "\n".join(f"  {p}" for p in problems))
    return graph


def _problems(graph: Graph) -> Iterator[str]:
    yield from _ids(graph)
    yield from _dims(graph)
    axes = dict(graph.inputs)
    for node in graph.nodes:
        yield from _edges(graph, node, axes)
        yield from _ownership(graph, node)
        yield from _formats(graph, node)
        axes[node.id] = node.op.output()
    for name, node_id in graph.outputs:
        if node_id not in axes:
            yield f"output `{name}` is `{node_id}`, which is no node"
    for kind, name in graph.formats:
        if kind not in OUTPUT_CLASSES:
            yield f"formats: `{kind}` is none of {', '.join(OUTPUT_CLASSES)}"
        yield from _format(f"formats: {kind}", name)


def _ids(graph: Graph) -> Iterator[str]:
    seen = {name for name, _ in graph.inputs}
    for node in graph.nodes:
        if node.id in seen:
            yield f"`{node.id}` stands for two nodes"
        seen.add(node.id)
    positions: dict[tuple[str, str], int] = {}
    for i, node in enumerate(graph.nodes):
        key = (node.region, node.block)
        if node.block and positions.get(key, i - 1) != i - 1:
            yield f"{where(graph, node)}: block `{node.block}` of `{node.region}` is in two pieces"
        positions[key] = i


def _dims(graph: Graph) -> Iterator[str]:
    try:
        dims = graph.dims
    except GraphError as error:
        yield str(error)
        return
    for dim in dims.values():
        if dim.size == 0:
            yield f"dim `{dim.name}` has no size"


def _edges(graph: Graph, node: Node, axes: dict[str, tuple[Axis, ...]]) -> Iterator[str]:
    wanted = node.op.inputs()
    if len(wanted) != len(node.inputs):
        yield f"{where(graph, node)}: {node.op.kind} takes {len(wanted)} inputs, got {len(node.inputs)}"
        return
    for i, (source, expected) in enumerate(zip(node.inputs, wanted, strict=True)):
        if source not in axes:
            yield f"{where(graph, node)}: input {i} is `{source}`, which does not stand before it"
            continue
        yield from _same(graph, node, i, source, axes[source], expected)


def _same(
    graph: Graph, node: Node, i: int, source: str, got: tuple[Axis, ...], expected: tuple[Axis, ...]
) -> Iterator[str]:
    if len(got) != len(expected):
        yield f"{where(graph, node)}: input {i} (`{source}`) has {len(got)} axes, expected {len(expected)}"
        return
    for a, b in zip(got, expected, strict=True):
        if not same_axis(a, b):
            yield f"{where(graph, node)}: input {i} (`{source}`) is over {_named(a)}, expected {_named(b)}"


def _ownership(graph: Graph, node: Node) -> Iterator[str]:
    if not node.owner:
        return
    owner = graph.by_id.get(node.owner)
    if owner is None:
        yield f"{where(graph, node)}: parameters of `{node.owner}`, which is no node"
        return
    if owner.owner:
        yield f"{where(graph, node)}: parameters of `{node.owner}`, which refers to `{owner.owner}` itself"
        return
    theirs = {p.name: p for p in owner.op.params()}
    for param in node.op.params():
        if param.name not in theirs:
            yield f"{where(graph, node)}: `{node.owner}` has no parameter `{param.name}`"
        elif list(map(str, param.axes)) != list(map(str, theirs[param.name].axes)):
            mine, other = "; ".join(map(_named, param.axes)), "; ".join(map(_named, theirs[param.name].axes))
            yield f"{where(graph, node)}: `{param.name}` is over {mine}, its owner's over {other}"


def _formats(graph: Graph, node: Node) -> Iterator[str]:
    names = {p.name for p in node.op.params()}
    for param, name in node.formats:
        if param not in names:
            yield f"{where(graph, node)}: format of `{param}`, which is no parameter"
        yield from _format(f"{where(graph, node)}: format of {param}", name)


def _format(at: str, name: str) -> Iterator[str]:
    try:
        get_format(name)
    except ArchcError as error:
        yield f"{at}: {error}"


def where(graph: Graph, node: Node) -> str:
    """`layers.3.mixer (mamba2 L3.mixer)`: scope, op and id."""
    scope = graph.scopes.get(node.id, node.id)
    return f"{scope} ({node.op.kind})" if scope == node.id else f"{scope} ({node.op.kind} {node.id})"


def _named(axis: Axis) -> str:
    return " * ".join(describe(d) for d in axis.dims())
