"""The layers of a graph in another order, some of them more than once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from archc.ir.dims import Dim
from archc.ir.graph import Graph, Node
from archc.kernels.errors import GraphError


def arranged(graph: Graph, region: str, order: Sequence[tuple[str, str]]) -> Graph:
    """The graph with the blocks of a region in this order, as `(name, block)`: the block itself where the two are the
    same, else a copy of it by a new name, whose dims and parameters are its own.

    Blocks that the order leaves out are gone. Raises GraphError for a name that comes twice, a block that the region
    does not have, and a region that is no chain of blocks, each fed by the one before it.
    """
    blocks = graph.blocks.get(region, ())
    names = [name for name, _ in order]
    taken = {node.block for node in graph.nodes if node.block}
    for name, block in order:
        if block not in blocks:
            raise GraphError(f"`{graph.name}` has no block `{block}` in `{region}`")
        if names.count(name) > 1 or (name != block and name in taken):
            raise GraphError(f"two blocks cannot both be called `{name}`")
    if not blocks:
        return graph
    links = [_link(graph, region, block) for block in blocks]
    for (_, out), (source, _) in itertools.pairwise(links):
        if source != out:
            raise GraphError(f"`{region}` is no chain: `{source}` feeds a block that does not follow it")
    by_block = dict(zip(blocks, links, strict=True))
    stream, made = links[0][0], list[Node]()
    for name, block in order:
        source, out = by_block[block]
        copied = list(_copied(graph, region, block, name, {source: stream}))
        stream = f"{name}{out.removeprefix(block)}"
        made += copied
    return _spliced(graph, region, made, links[-1][1], stream)


def _link(graph: Graph, region: str, block: str) -> tuple[str, str]:
    """The one value that a block takes from outside, and the one that it gives. Raises GraphError for other blocks."""
    nodes = graph.block_nodes(region, block)
    own = {node.id for node in nodes}
    sources = {i for node in nodes for i in node.inputs if i not in own}
    used = {i for node in graph.nodes if node.id not in own for i in node.inputs} | {i for _, i in graph.outputs}
    given = [node.id for node in nodes if node.id in used]
    if len(sources) != 1 or len(given) != 1 or any(n.owner and n.owner not in own for n in nodes):
        raise GraphError(f"block `{block}` takes more than the residual stream, or gives more: it cannot be moved")
    return sources.pop(), given[0]


def _copied(graph: Graph, region: str, block: str, name: str, sources: Mapping[str, str]) -> Iterator[Node]:
    """The nodes of a block under another name, fed by other sources."""
    nodes = graph.block_nodes(region, block)
    ids = {node.id: dataclasses.replace(node, block=name).id for node in nodes} | dict(sources)
    shared = {d for n in graph.nodes if n.block != block or n.region != region for d in n.op.dims.values()}

    def own(dim: Dim) -> Dim:
        within = own(dim.within) if dim.within else None
        if dim in shared or name == block:
            return dim
        return dataclasses.replace(dim, name=_renamed(dim.name, block, name), within=within)

    for node in nodes:
        inputs = tuple(ids[i] for i in node.inputs)
        owner = ids.get(node.owner, node.owner)
        yield dataclasses.replace(node, block=name, inputs=inputs, owner=owner, op=node.op.with_dims(own))


def _renamed(dim: str, block: str, name: str) -> str:
    return name + dim.removeprefix(block) if dim.startswith(f"{block}.") else f"{name}.{dim}"


def _spliced(graph: Graph, region: str, made: Sequence[Node], before: str, now: str) -> Graph:
    """The graph with other nodes in a region, whose last value is now called otherwise."""
    first = next(i for i, node in enumerate(graph.nodes) if node.region == region)
    others = [
        dataclasses.replace(node, inputs=tuple(now if i == before else i for i in node.inputs))
        for node in graph.nodes
        if node.region != region
    ]
    head = sum(node.region != region for node in graph.nodes[:first])
    outputs = tuple((name, now if i == before else i) for name, i in graph.outputs)
    return dataclasses.replace(graph, nodes=(*others[:head], *made, *others[head:]), outputs=outputs)
