"""A graph as JSON for Google's Model Explorer: every op, in groups that open and close.

The form is what ai-edge-model-explorer 0.1.34 reads: a bare list of graphs, `namespace` in every node (without it the
viewer waits for ever), and every value a text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.ir.graph import Graph, Node
from archc.viz import structure
from archc.viz.colours import colour

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay


def model_explorer(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """JSON of a graph: blocks are groups `layers/17 attention`, a node's parameters and scores its attributes."""
    inputs = (_joint(name, name, [], axes=structure.shape_text(axes)) for name, axes in graph.inputs)
    groups = dict(_namespaces(graph))
    nodes = (_node(graph, overlays, node, groups[node.id]) for node in graph.nodes)
    outputs = (_joint(f"output {name}", name, [source]) for name, source in graph.outputs)
    made = {
        "id": graph.name,
        "nodes": [*inputs, *nodes, *outputs],
        "groupNodeAttributes": dict(_groups(graph, groups)),
        "groupNodeConfigs": list(_group_looks(graph)),
    }
    return json.dumps([made], indent=1, allow_nan=False) + "\n"


def _joint(name: str, label: str, sources: Iterable[str], **outputs: str) -> dict[str, Any]:
    """An input or output of the model."""
    return {
        "id": name,
        "label": label,
        "namespace": "",
        "incomingEdges": _edges(sources),
        "outputsMetadata": [_output(axes) for axes in outputs.values()],
    }


def _node(graph: Graph, overlays: Sequence[Overlay], node: Node, namespace: str) -> dict[str, Any]:
    # The id stands among the attributes since the viewer searches them.
    facts = [("id", node.id), *structure.facts(graph, node), *structure.scores(overlays, node.id)]
    return {
        "id": node.id,
        "label": node.op.kind,
        "namespace": namespace,
        "attrs": [{"key": key, "value": value} for key, value in facts],
        "incomingEdges": _edges(node.inputs),
        "outputsMetadata": [_output(structure.shape_text(node.op.output()))],
        "style": {"backgroundColor": colour(node.op.kind).fill},
    }


def _edges(sources: Iterable[str]) -> list[dict[str, str]]:
    return [
        {"sourceNodeId": source, "sourceNodeOutputId": "0", "targetNodeInputId": str(i)}
        for i, source in enumerate(sources)
    ]


def _output(shape: str) -> dict[str, Any]:
    return {"id": "0", "attrs": [{"key": "tensor_shape", "value": shape}]}


# -- groups ------------------------------------------------------------------------------------------------------------


def _namespaces(graph: Graph) -> Iterator[tuple[str, str]]:
    """The groups that every node lies in, outermost first: `layers/17 attention`."""
    places = {region: structure.places(graph, region) for region in structure.regions(graph)}
    for node in graph.nodes:
        if node.block:
            place = places[node.region][node.block]
            block = f"{place} {structure.title(graph.block_nodes(node.region, node.block))}"
            yield node.id, "/".join(map(_name, (*node.region.split("."), block)))
        else:
            yield node.id, "mtp" if graph.in_mtp(node) else ""


def _name(text: str) -> str:
    """Text as the name of one group: a slash would begin another, a backslash changes what a slash means."""
    return text.replace("\\", "∖").replace("/", "∕")


def _groups(graph: Graph, namespaces: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """What the viewer tells of the model and of each block."""
    params = f"{sum(map(_params, graph.nodes)):,}"
    layers = {region: str(len(blocks)) for region, blocks in graph.blocks.items()}
    yield "", {"name": graph.name, "hash": graph.hash, "parameters": params, **layers}
    for nodes in _blocks(graph):
        yield namespaces[nodes[0].id], {"block": nodes[0].block, "parameters": f"{sum(map(_params, nodes)):,}"}


def _blocks(graph: Graph) -> Iterator[tuple[Node, ...]]:
    for region in structure.regions(graph):
        yield from (graph.block_nodes(region, block) for block in structure.region_blocks(graph, region))


def _params(node: Node) -> int:
    """Elements of the parameters that a node owns."""
    return 0 if node.owner else sum(math.prod(param.shape) for param in node.op.params())


def _group_looks(graph: Graph) -> Iterator[dict[str, str]]:
    """A colour for the groups of each kind of block."""
    kinds = {_name(structure.title(nodes)): structure.title_op(nodes).kind for nodes in _blocks(graph)}
    for name, kind in kinds.items():
        look = colour(kind)
        yield {
            "namespaceRegex": f" {re.escape(name)}$",
            "backgroundColor": look.fill,
            "borderColor": "#5b6470",
            "textColor": look.ink,
        }
