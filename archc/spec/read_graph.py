"""From a graph back to the spec that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archc.ir.build import NORMS, Norm
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph, Node
from archc.kernels.errors import UnsupportedError
from archc.spec.model import Block, MTPSpec, Spec

if TYPE_CHECKING:
    from archc.ir.op import Op


def read_graph(graph: Graph) -> Spec:
    """See `archc.spec.spec_from_graph`."""
    for name in ("embedding", "norm", "lm_head"):
        if name not in graph.by_id:
            raise UnsupportedError(f"`{graph.name}` has no `{name}`: a spec describes language models only")
    embedding = graph.node("embedding").op
    mtp = _blocks(graph, MTP_LAYERS)
    steps = graph.mtp_steps
    spec = Spec(
        name=graph.name,
        d_model=embedding.dims["d_model"].size,
        vocab=embedding.dims["vocab"].size,
        layers=_blocks(graph, LAYERS),
        norm=_norm(graph),
        tied=bool(graph.node("lm_head").owner),
        init_std=float(embedding.attributes["init_std"]),
        mtp=MTPSpec(layers=mtp, steps=steps) if steps else None,
        formats=graph.formats,
    )
    _check_same(graph, spec.graph())
    return spec


def _blocks(graph: Graph, region: str) -> tuple[Block, ...]:
    found = []
    for block in graph.blocks.get(region, ()):
        nodes = {node.role: node for node in graph.block_nodes(region, block)}
        if any(node.owner for node in nodes.values()):  # a further step of MTP: the first one says it all
            continue
        if set(nodes) != {"norm", "mixer", "add"}:
            raise UnsupportedError(f"block `{block}` is not a norm, a mixer and a residual add: got {', '.join(nodes)}")
        mixer = nodes["mixer"]
        if type(mixer.op).Fields is None:
            raise UnsupportedError(f"`{mixer.id}` is a {mixer.op.kind}, which no spec can name")
        found.append(Block(kind=mixer.op.kind, fields=mixer.op.fields(), formats=mixer.formats))
    return tuple(found)


def _norm(graph: Graph) -> Norm:
    op = graph.node("norm").op
    for kind in NORMS:
        norm = Norm(kind=kind, eps=float(op.attributes.get("eps", 0.0)))
        if norm.op(op.dims["d_model"]) == op:
            return norm
    raise UnsupportedError(f"`{graph.name}` ends in a {op.kind}, which no spec can name")


def _check_same(graph: Graph, rebuilt: Graph) -> None:
    """Raise UnsupportedError where the spec builds something else, node by node up to names."""
    ids = _renaming(graph, rebuilt)
    if ids is None:
        raise UnsupportedError(f"`{graph.name}` has nodes that a spec cannot place")
    for mine, theirs in zip(graph.nodes, rebuilt.nodes, strict=True):
        if _essence(mine, ids) != _essence(theirs, {}):
            raise UnsupportedError(f"a spec cannot say what `{mine.id}` is: it would be built as `{theirs.id}`")
    _check_links(graph, rebuilt)


def _renaming(graph: Graph, rebuilt: Graph) -> dict[str, str] | None:
    """Rebuilt ids by the ids of `graph`, node by node; None when the two differ in length."""
    if len(graph.nodes) != len(rebuilt.nodes):
        return None
    return {mine.id: theirs.id for mine, theirs in zip(graph.nodes, rebuilt.nodes, strict=True)}


def _essence(node: Node, ids: Mapping[str, str]) -> Any:
    """All that counts of a node, with the names of other nodes put through `ids`."""
    inputs = tuple(ids.get(name, name) for name in node.inputs)
    owner = ids.get(node.owner, node.owner)
    return node.role, node.region, inputs, owner, node.formats, _sizes(node.op)


def _sizes(op: Op) -> Any:
    dims = {role: (d.size, d.order, d.multiple_of, tuple(o.size for o in d.outer)) for role, d in op.dims.items()}
    return op.kind, dims, dict(op.attributes)


def _check_links(graph: Graph, rebuilt: Graph) -> None:
    """Raise UnsupportedError where two ops share a dim that a spec gives each its own."""
    names: dict[str, str] = {}
    for mine, theirs in zip(graph.nodes, rebuilt.nodes, strict=True):
        for role, dim in mine.op.dims.items():
            other = theirs.op.dims[role].name
            if names.setdefault(dim.name, other) != other:
                raise UnsupportedError(f"no spec can say that `{mine.id}` shares `{dim.name}` with another op")
