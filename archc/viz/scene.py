"""What a page draws of a model, as plain data: nodes, parts that are equal, folds, cost expressions, and the choices of
hardware and formats that its workload offers.

Nothing in it is computed for one workload: the page evaluates the expressions of `archc.ir.cost_program.cost_parts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from archc.ir.cost_graph import Costed
from archc.ir.cost_program import CostPart, activation_bytes, cost_parts
from archc.ir.dims import Axis, Concat, Dim
from archc.ir.expr import Expr
from archc.ir.formats import FORMATS
from archc.ir.graph import Graph, Node
from archc.ir.hardware import HardwareProfile
from archc.ir.latency import BANDWIDTH, LINK_LATENCY, LINK_S_PER_BYTE, hardware_env
from archc.ir.op import Op, Param, State
from archc.ir.text_line import value_words
from archc.ir.workload import FormatChoice
from archc.viz.colours import colour
from archc.viz.fields import sizes_text
from archc.viz.fold import Fold, fold
from archc.viz.layers import strip
from archc.viz.structure import standing

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay

DEVICES = (1, 2, 4, 8, 16, 32, 64)


def scene(graph: Graph, overlays: Sequence[Overlay] = ()) -> dict[str, Any]:
    """Everything the page needs of a graph, as plain data for JSON."""
    costed = Costed(graph, FormatChoice())
    parts = cost_parts(costed)
    of_node = {node.id: i for i, part in enumerate(parts) for node in part.group.nodes}
    return {
        "name": graph.name,
        "hash": graph.hash,
        "nodes": [_node(graph, node, of_node[node.id]) for node in graph.nodes],
        "parts": [_part(graph, part, plain) for part, plain in zip(parts, _plain_figures(costed, parts), strict=True)],
        "regions": [_region(graph, region) for region in graph.blocks],
        "order": [{"region": each} if isinstance(each, str) else {"node": each.id} for each in standing(graph)],
        "kinds": {op.kind: _kind(op) for op in {type(node.op): node.op for node in graph.nodes}.values()},
        "outputs": dict(graph.outputs),
        "mtp_steps": graph.mtp_steps,
        "activation_bytes": activation_bytes(costed).to_json(),
        **_choices(graph),
        "overlays": [overlay.to_json() for overlay in overlays],
    }


# -- what there is -----------------------------------------------------------------------------------------------------


def _node(graph: Graph, node: Node, part: int) -> dict[str, Any]:
    found = {
        "id": node.id,
        "scope": graph.scopes[node.id],
        "part": part,
        "inputs": list(node.inputs),
        "region": node.region,
        "block": node.block,
        "role": node.role,
        "owner": node.owner,
    }
    return {key: value for key, value in found.items() if value not in ("", None)}


def _region(graph: Graph, region: str) -> dict[str, Any]:
    """The blocks of a region in order, and how equal ones fold."""
    layers = strip(graph, region).layers
    return {
        "name": region,
        "blocks": [
            {"id": layer.block, "letter": layer.letter, "nodes": [n.id for n in graph.block_nodes(region, layer.block)]}
            for layer in layers
        ],
        "folds": [_fold(one) for one in fold([layer.mark for layer in layers])],
    }


def _fold(one: Fold) -> dict[str, Any]:
    inner = [_fold(each) for each in one.inner]
    return {"start": one.start, "length": one.length, "times": one.times, **({"inner": inner} if inner else {})}


def _kind(op: Op) -> dict[str, Any]:
    paint = colour(op.kind)
    block = type(op).Fields is not None
    return {"letter": op.usual_letter() if block else "", "fill": paint.fill, "ink": paint.ink, "block": block}


def _part(graph: Graph, part: CostPart, plain: dict[str, Any] | None) -> dict[str, Any]:
    """Nodes that are equal: their op in full, and what one of them costs."""
    group = part.group
    node = group.nodes[0]
    op = node.op
    found = {
        "kind": op.kind,
        "about": op.summary,
        "count": len(group.nodes),
        "mtp": group.mtp,
        "owns": group.owns,
        "sizes": dict(group.sizes),
        "dims": [_dim(role, dim) for role, dim in op.dims.items()],
        "derived": {name: axis.size for name, axis in op.derived().items()},
        "attributes": {name: value_words(value) for name, value in op.attributes.items()},
        "text": sizes_text(op),
        "params": [_param(graph, node, op, param) for param in op.params()],
        "state": [_state(op, state) for state in op.state()],
        "figures": _json(part.figures),
    }
    return found if plain is None else {**found, "plain_figures": plain}


def _dim(role: str, dim: Dim) -> dict[str, Any]:
    within = {"within": dim.within.name.rpartition(".")[2]} if dim.within else {}
    return {"role": role, "size": dim.size, **within, **({"order": dim.order} if dim.order != "free" else {})}


def _param(graph: Graph, node: Node, op: Op, param: Param) -> dict[str, Any]:
    owner = graph.node(node.owner) if node.owner else node
    return {
        "name": param.name,
        "axes": [_axis(op, axis) for axis in param.axes],
        "format": graph.weight_format(owner, param.name),
        **({} if param.trained else {"trained": False}),
    }


def _axis(op: Op, axis: Axis) -> dict[str, Any]:
    """An axis in roles, and its parts where it is made of several one after the other."""
    parts = axis.parts if isinstance(axis, Concat) else ()
    named = {"parts": [{"name": name, "text": str(op.expr(part)), "size": part.size} for name, part in parts]}
    return {"text": str(op.expr(axis)), "size": axis.size, **(named if parts else {})}


def _state(op: Op, state: State) -> dict[str, Any]:
    shape = [str(part) if isinstance(part, Expr) else str(op.expr(part)) for part in state.shape]
    stored = {} if state.stored_tokens is None else {"stored_tokens": str(state.stored_tokens)}
    return {"name": state.name, "class": state.format_class, "shape": shape, **stored}


# -- what it costs -----------------------------------------------------------------------------------------------------


def _json(figures: Any) -> dict[str, Any]:
    return {name: expr.to_json() for name, expr in figures.items()}


def _plain_figures(costed: Costed, parts: Sequence[CostPart]) -> Iterator[dict[str, Any] | None]:
    """The figures of each part once a chosen format has replaced those that its parameters have of their own."""
    replaced = Costed(costed.graph, FormatChoice(weights="bf16"))
    of_node = {node.id: part for part in cost_parts(replaced) for node in part.group.nodes}
    for part in parts:
        other = of_node[part.group.nodes[0].id]
        yield _json(other.figures) if other.group.cost is not part.group.cost else None


def _choices(graph: Graph) -> dict[str, Any]:
    """Hardware and formats that a workload may choose; the formats of every class that follow from the weights'."""
    from archc.hardware import hardware_names, load_hardware

    formats = {"": FormatChoice().of(graph), **{name: FormatChoice(weights=name).of(graph) for name in FORMATS}}
    return {
        "formats": formats,
        "bytes": {name: float(f.bytes_per_element) for name, f in FORMATS.items()},
        "hardware": {name: _hardware(load_hardware(name)) for name in hardware_names()},
    }


def _hardware(profile: HardwareProfile) -> dict[str, Any]:
    """What one device can do, and by how many work together what adding results up takes."""
    env = hardware_env(profile, FormatChoice().of(_NOTHING))
    counts = DEVICES if profile.link_bytes_s else DEVICES[:1]
    linked = {n: hardware_env(profile.times(n), FormatChoice().of(_NOTHING)) for n in counts}
    return {
        "memory_bytes": profile.memory_bytes,
        "reserve_bytes": profile.reserve_bytes,
        "rates": {name: env[f"rate.{name}"] for name in FORMATS},
        "bandwidth": env[BANDWIDTH.name],
        "links": {str(n): [each[LINK_S_PER_BYTE.name], each[LINK_LATENCY.name]] for n, each in linked.items()},
    }


_NOTHING = Graph("nothing", (), ())
