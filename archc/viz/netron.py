"""A graph as a `.netron` file for Netron: flat, every op a node, shapes on the edges.

Netron has no groups. It calls the form experimental: it was read from version 9.3.3, which asks that the file's name
end in `.netron` and that `signature` come first.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archc import __version__
from archc.ir.dims import Axis
from archc.ir.graph import Graph, Node
from archc.ir.op import registered_ops
from archc.ir.workload import FormatChoice
from archc.viz import structure

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay

# What Netron colours nodes by; kinds take them in order of registration, joints and norms none.
_CATEGORIES = ("Attention", "Layer", "Activation", "Pool", "Dropout", "Shape", "Quantization", "Data")


def netron(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """JSON of a graph; parameters, sizes and scores are attributes of its nodes."""
    working = FormatChoice().of(graph)["activations"]
    values = {name: _value(name, axes, "") for name, axes in graph.inputs}
    values |= {node.id: _value(node.id, node.op.output(), working) for node in graph.nodes}
    index = {name: i for i, name in enumerate(values)}
    made = {
        "signature": "netron:archc",
        "format": "archc graph",
        "producer": f"archc {__version__}",
        "graphs": [
            {
                "name": graph.name,
                "values": list(values.values()),
                "inputs": [_argument(name, index[name]) for name, _ in graph.inputs],
                "outputs": [_argument(name, index[source]) for name, source in graph.outputs],
                "nodes": [_node(graph, overlays, node, index) for node in graph.nodes],
            }
        ],
    }
    return json.dumps(made, indent=1, allow_nan=False) + "\n"


def _value(name: str, axes: Sequence[Axis], data_type: str) -> dict[str, Any]:
    """What flows along an edge."""
    return {"name": name, "type": {"dataType": data_type, "shape": {"dimensions": structure.shape(axes)}}}


def _argument(name: str, index: int) -> dict[str, Any]:
    return {"name": name, "value": [index]}


def _node(graph: Graph, overlays: Sequence[Overlay], node: Node, index: dict[str, int]) -> dict[str, Any]:
    facts = itertools.chain(structure.facts(graph, node), structure.scores(overlays, node.id))
    return {
        "type": {"name": node.op.kind, "category": _category(node.op.kind)},
        "name": node.id,
        "inputs": [_argument(f"input {i}" if i else "input", index[name]) for i, name in enumerate(node.inputs)],
        "outputs": [_argument("output", index[node.id])],
        "attributes": [{"name": name, "value": value, "type": "string"} for name, value in facts],
    }


def _category(kind: str) -> str:
    kinds = [op.kind for op in registered_ops() if op.Fields is not None]
    return _CATEGORIES[kinds.index(kind) % len(_CATEGORIES)] if kind in kinds else ""
