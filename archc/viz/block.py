"""One layer or one op in full: every dim, parameter, state and product. Plain data for the terminal and for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from archc.ir.cost_op import product_flops
from archc.ir.dims import Axis, Concat, Dim, Product
from archc.ir.expr import Expr
from archc.ir.formats import get_format
from archc.ir.graph import LAYERS, Graph, Node
from archc.ir.op import Op, Param, State
from archc.ir.text_line import print_value
from archc.ir.workload import CONTEXT, FormatChoice
from archc.kernels.errors import ArchcError, UnknownName
from archc.viz.layers import node_letter

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay
    from archc.viz.overlay_rows import Rows


@dataclass(frozen=True)
class DimView:
    """A dim of an op: its role there, what it lies within (`rows` units of it), how its units may be permuted."""

    role: str
    name: str
    size: int
    within: str
    rows: int
    order: str
    multiple_of: int


@dataclass(frozen=True)
class DerivedView:
    """A size that follows from dims: `layout` says how."""

    name: str
    layout: str
    size: int


@dataclass(frozen=True)
class ParamView:
    """A parameter, each axis written in dims. `share` is its part of all the model's parameters."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    elements: int
    format: str
    bytes: int
    share: float
    contracts: str
    trained: bool


@dataclass(frozen=True)
class StateView:
    """What a sequence keeps. `bytes` is of one sequence, or of each of its stored `tokens` where that is said."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    format: str
    bytes: int
    tokens: str


@dataclass(frozen=True)
class ProductView:
    """A product with a parameter or between values: FLOPs of one new token at the context that the view names."""

    name: str
    flops_per_token: int
    contracts: str


@dataclass(frozen=True)
class OpView:
    """One op in full. `owner` is the node whose parameters it uses, empty where it has its own."""

    id: str
    scope: str
    kind: str
    letter: str
    about: str
    reads: tuple[str, ...]
    dims: tuple[DimView, ...]
    derived: tuple[DerivedView, ...]
    attributes: Mapping[str, Any]
    params: tuple[ParamView, ...]
    state: tuple[StateView, ...]
    products: tuple[ProductView, ...]
    owner: str


@dataclass(frozen=True)
class View:
    """Some ops of a model in full. `title` says which, `context` is that of the products' FLOPs."""

    model: str
    title: str
    context: int
    ops: tuple[OpView, ...]
    overlays: tuple[Rows, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; of overlays the values of these ops."""
        ids = {op.id for op in self.ops}
        data = [rows.overlay.to_json() for rows in self.overlays]
        overlays = [{**one, "nodes": {k: v for k, v in one["nodes"].items() if k in ids}} for one in data]
        return {
            "model": self.model,
            "title": self.title,
            "context": self.context,
            "ops": [dataclasses.asdict(op) for op in self.ops],
            **({"overlays": overlays} if overlays else {}),
        }


def view(graph: Graph, *, layer: int | None = None, op: str | None = None, overlays: Sequence[Overlay] = ()) -> View:
    """A layer by its number, or an op (or a whole block) by its scope or id.

    Raises ArchcError for a layer that is not there, naming those that are, and UnknownName for an op."""
    nodes = chosen(graph, layer=layer, op=op)
    maker = _Maker(graph)
    title = f"layer {layer}" if layer is not None else str(op)
    return View(graph.name, title, CONTEXT, tuple(maker.op(n) for n in nodes), _rows(graph, nodes, overlays))


def chosen(graph: Graph, *, layer: int | None = None, op: str | None = None) -> tuple[Node, ...]:
    """The nodes that a layer's number or an op's name stands for."""
    if layer is not None:
        return _layer(graph, layer)
    name = op or ""
    if name in graph.by_id:
        return (graph.by_id[name],)
    by_name = {**_blocks(graph), **{graph.scopes[n.id]: (n,) for n in graph.nodes if not n.owner}}
    if name not in by_name:
        raise UnknownName("op", name, [*by_name, *graph.by_id])
    return by_name[name]


def _layer(graph: Graph, layer: int) -> tuple[Node, ...]:
    blocks = graph.blocks.get(LAYERS, ())
    if not 0 <= layer < len(blocks):
        there = f"has the layers 0 to {len(blocks) - 1}" if blocks else "has no layers"
        raise ArchcError(f"no layer {layer}: `{graph.name}` {there}")
    return graph.block_nodes(LAYERS, blocks[layer])


def _blocks(graph: Graph) -> dict[str, tuple[Node, ...]]:
    """The nodes of every block by its scope, and by its id."""
    found: dict[str, tuple[Node, ...]] = {}
    for region, blocks in graph.blocks.items():
        for i, block in enumerate(blocks):
            found[f"{region}.{i}"] = found[block] = graph.block_nodes(region, block)
    return found


def _rows(graph: Graph, nodes: Sequence[Node], overlays: Sequence[Overlay]) -> tuple[Rows, ...]:
    if not overlays:
        return ()
    from archc.viz.overlay_rows import rows

    return tuple(rows(graph, overlay, only=[node.id for node in nodes]) for overlay in overlays)


class _Maker:
    """Makes views of nodes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.total = sum(math.prod(param.shape) for _, param in graph.params())
        self.formats = FormatChoice().of(graph)

    def op(self, node: Node) -> OpView:
        return OpView(
            id=node.id,
            scope=self.graph.scopes[node.id],
            kind=node.op.kind,
            letter=node_letter(node),
            about=node.op.summary,
            reads=node.inputs,
            dims=tuple(_dim(node.op, role, dim) for role, dim in node.op.dims.items()),
            derived=tuple(DerivedView(n, _layout(node.op, a), a.size) for n, a in node.op.derived().items()),
            attributes={name: _attribute(value) for name, value in node.op.attributes.items()},
            params=tuple(self.param(node, param) for param in node.op.params()),
            state=tuple(self.state(node.op, state) for state in node.op.state()),
            products=tuple(_products(node.op)),
            owner=node.owner,
        )

    def param(self, node: Node, param: Param) -> ParamView:
        owner = self.graph.node(node.owner) if node.owner else node
        elements, stored = math.prod(param.shape), get_format(self.graph.weight_format(owner, param.name))
        return ParamView(
            name=param.name,
            axes=tuple(axis_text(node.op, axis) for axis in param.axes),
            shape=param.shape,
            elements=elements,
            format=stored.name,
            bytes=math.ceil(elements * stored.bytes_per_element),
            share=elements / self.total,
            contracts="" if param.contracts is None else _name(node.op, param.contracts),
            trained=param.trained,
        )

    def state(self, op: Op, state: State) -> StateView:
        sizes = {role: dim.size for role, dim in op.dims.items()}
        shape = tuple(p.evaluate(sizes) if isinstance(p, Expr) else p.size for p in state.shape)
        stored = get_format(self.formats[state.format_class])
        return StateView(
            name=state.name,
            axes=tuple(
                f"{p}:{n}" if isinstance(p, Expr) else axis_text(op, p) for p, n in zip(state.shape, shape, strict=True)
            ),
            shape=shape,
            format=stored.name,
            bytes=math.ceil(math.prod(shape) * Fraction(stored.bytes_per_element)),
            tokens="" if state.stored_tokens is None else str(state.stored_tokens),
        )


def _dim(op: Op, role: str, dim: Dim) -> DimView:
    within = _name(op, dim.within) if dim.within else ""
    return DimView(role, dim.name, dim.size, within, dim.rows, dim.order, dim.multiple_of)


def _attribute(value: Any) -> Any:
    """A value that JSON has as it is, else its text form."""
    plain = value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else print_value(value)


def _products(op: Op) -> Iterator[ProductView]:
    one = {role: dim.size for role, dim in op.dims.items()}
    env = {**one, "batch": 1, "tokens": 1, "context": CONTEXT, "logits": 1}
    over = {param.name: _name(op, param.contracts) for param in op.params() if param.contracts is not None}
    over |= {c.name: ", ".join(_name(op, dim) for dim in c.contracts) for c in op.contractions()}
    for name, flops in product_flops(op).items():
        yield ProductView(name, math.ceil(flops.evaluate(env)), over[name])


# -- axes in dims ------------------------------------------------------------------------------------------------------


def axis_text(op: Op, axis: Axis) -> str:
    """An axis in the op's words, with sizes: `z:10240 | x:10240 | B:1024 | C:1024 | dt:128`, `d_model:5120`."""
    if isinstance(axis, Concat):
        return " | ".join(f"{name}:{part.size}" for name, part in axis.parts)
    return f"{_name(op, axis)}:{axis.size}"


def _name(op: Op, axis: Axis) -> str:
    """What the op calls an axis: a role, a size it derives, or its layout."""
    named = {str(derived): name for name, derived in op.derived().items()}
    return named.get(str(axis)) or _layout(op, axis)


def _layout(op: Op, axis: Axis) -> str:
    """How an axis is laid out, in roles: `n_groups * heads_per_group * head_dim`, `[x | B | C]`."""
    if isinstance(axis, Concat):
        return "[" + " | ".join(f"{name}:{_name(op, part)}" for name, part in axis.parts) + "]"
    if isinstance(axis, Product):
        return " * ".join(_layout(op, part) for part in axis.parts)
    return next((role for role, dim in op.dims.items() if dim.name == axis.name), axis.name)
