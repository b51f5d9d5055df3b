"""The reference interpreter: runs a graph's ops node by node in torch, any value tapped or masked.

Oracles and importance estimators use it, and emitted code is compared with it. Speed is codegen's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from archc.ir.dims import Axis, Concat, Dim
from archc.ir.expr import Expr
from archc.ir.formats import get_format
from archc.ir.graph import Graph, Node
from archc.ir.op import Op, State
from archc.kernels.errors import GraphError, UnknownName, WeightError

if TYPE_CHECKING:
    from torch import Tensor, dtype

    from archc.kernels.reference import LayerState

Masks = Mapping[str, "Tensor"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A value of a run: the output of a node (`name` is empty), or what its maths taps or probes under a name.

    `axes` lay out the trailing axes of `read()`, which is to be called at once or never; `at` as for `Maths.probe`.
    """

    node: Node
    name: str
    axes: tuple[Axis, ...]
    read: Callable[[], Tensor]
    at: Tensor | None = None


Watch: TypeAlias = "Callable[[Reading], None]"


class GraphState:
    """What the sequences of a batch carry between calls: one LayerState a stateful node, and their length."""

    def __init__(self, layers: dict[str, LayerState]) -> None:
        self.layers = layers

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(layer.nbytes for layer in self.layers.values())

    def advance(self, tokens: int) -> None:
        """Count `tokens` more as consumed, in every layer."""
        for layer in self.layers.values():
            layer.length += tokens


def new_state(graph: Graph, batch_size: int, max_context: int, *, dtype: dtype | None = None) -> GraphState:
    """Zeroed state for `batch_size` sequences of up to `max_context` tokens; MTP steps keep none here.

    `dtype` is that of the activations; the SSM state is fp32 unless the graph or a wider `dtype` says otherwise.
    """
    formats = dict(graph.formats)
    layers = {}
    for node in graph.nodes:
        if not graph.in_mtp(node) and any(True for _ in node.op.state()):
            layers[node.id] = layer_state(node.op, batch_size, max_context, dtype=dtype, formats=formats)
    return GraphState(layers)


def layer_state(
    op: Op, batch_size: int, max_context: int, *, dtype: dtype | None = None, formats: Mapping[str, str] | None = None
) -> LayerState:
    """Zeroed state of one op, as its `State`s declare."""
    import torch

    from archc.kernels.reference import LayerState

    base = dtype or torch.float32
    env = {**{role: d.size for role, d in op.dims.items()}, "context": max_context, "tokens": 0, "batch": batch_size}
    tensors: dict[str, Any] = {}
    for state in op.state():
        named = (formats or {}).get(state.format_class)
        wide = torch.promote_types(base, torch.float32) if state.format_class == "ssm" else base
        kind = getattr(torch, get_format(named).torch_dtype) if named else wide
        tensors[state.name] = torch.zeros(state_shape(state, batch_size, env), dtype=kind)
    return LayerState(**tensors)


def state_shape(state: State, batch_size: int, env: Mapping[str, Any]) -> tuple[int, ...]:
    """[batch, (stored tokens,) *shape]."""
    sizes = [e.evaluate(env) if isinstance(e, Expr) else e.size for e in state.shape]
    stored = [state.stored_tokens.evaluate(env)] if state.stored_tokens is not None else []
    return tuple(int(n) for n in (batch_size, *stored, *sizes))


def execute(
    graph: Graph,
    weights: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor] | Tensor,
    taps: Collection[str] = (),
    masks: Masks | None = None,
    *,
    state: GraphState | None = None,
    outputs: Collection[str] | None = None,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Run the graph; returns outputs by name and taps by name.

    `inputs` is tokens [B, L], or a mapping with `tokens` and optionally `segments` [B, L] (packed documents) and
    outputs of nodes, which then do not run.
    `taps` name nodes (their output) or `<node id>.<tap>` values that the maths declares. `watch` is shown each value
    as it is computed: outputs, taps and probes. `masks` maps dim names to
    1-D (or [outer units, size]) keep-masks, applied wherever that dim is on the axes of a node's output or tap.
    `state` continues sequences. `outputs` limits the work to what they need; MTP is left out when there is a state.
    Raises WeightError when weights are missing or misshapen, UnknownName for a tap or output that does not exist.
    """
    values: dict[str, Tensor] = dict(inputs) if isinstance(inputs, Mapping) else {"tokens": inputs}
    segments = values.pop("segments", None)
    wanted = _wanted(graph, outputs, skip_mtp=state is not None)
    check_weights(graph, weights)
    run = _Run(graph, weights, segments, state, frozenset(taps), masks or {}, watch)
    for node in _needed(graph, [*wanted.values(), *run.tapped_nodes()], values):
        values[node.id] = run.node(node, [values[i] for i in node.inputs])
    if state is not None:
        state.advance(next(iter(values.values())).shape[1])
    return {**{name: values[node_id] for name, node_id in wanted.items()}, **run.tapped()}


def check_weights(graph: Graph, weights: Mapping[str, Tensor]) -> None:
    """Raise one WeightError that lists every missing or misshapen weight."""
    problems = []
    for key, shape in graph.weight_shapes().items():
        if key not in weights:
            problems.append(f"{key}: missing, expected {list(shape)}")
        elif tuple(weights[key].shape) != shape:
            problems.append(f"{key}: has shape {list(weights[key].shape)}, expected {list(shape)}")
    if problems:
        raise WeightError("weights do not fit the graph:\n" + "\n".join(f"  {p}" for p in problems))


def _wanted(graph: Graph, outputs: Collection[str] | None, *, skip_mtp: bool) -> dict[str, str]:
    known = dict(graph.outputs)
    for name in outputs or ():
        if name not in known:
            raise UnknownName("output", name, known)
    chosen = known if outputs is None else {n: known[n] for n in outputs}
    return {n: i for n, i in chosen.items() if not (skip_mtp and n.startswith("mtp"))}


def _needed(graph: Graph, ends: Collection[str], known: Collection[str]) -> Iterator[Node]:
    needed, have = set(ends), frozenset(known)
    for node in reversed(graph.nodes):
        if node.id in needed and node.id not in have:
            needed.update(node.inputs)
    return (n for n in graph.nodes if n.id in needed and n.id not in have)


class _Run:
    """One execution: what every node's maths shares."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Tensor],
        segments: Tensor | None,
        state: GraphState | None,
        taps: frozenset[str],
        masks: Masks,
        watch: Watch | None = None,
    ) -> None:
        self.graph, self.weights, self.segments, self.state = graph, weights, segments, state
        self.taps, self.masks, self.watch = taps, masks, watch
        self.found: dict[str, Tensor] = {}
        for name in masks:
            if name not in graph.dims:
                raise UnknownName("dim", name, graph.dims)

    def tapped_nodes(self) -> list[str]:
        """Nodes that must run for the taps."""
        nodes = []
        for tap in self.taps:
            owner = tap if tap in self.graph.by_id else tap.rpartition(".")[0]
            nodes.append(self.graph.node(owner).id)
        return nodes

    def tapped(self) -> dict[str, Tensor]:
        """Tapped values; raises UnknownName for one that no maths declared."""
        for tap in self.taps - set(self.found):
            raise UnknownName("tap", tap, [*self.found, *self.graph.by_id])
        return self.found

    def node(self, node: Node, inputs: list[Tensor]) -> Tensor:
        scope = self.graph.scopes[node.id]
        params = {p.name: self.weights[f"{scope}.{p.name}"] for p in node.op.params()}
        state = self.state.layers.get(node.id) if self.state is not None else None
        maths = OpScope(node.op, params, segments=self.segments, state=state, run=self, node_id=node.id)
        result = self.mask(node.op.forward(maths, *inputs), node.op.output(), 0.0)
        self.read(node, "", lambda: result, node.op.output())
        return result

    def value(self, node_id: str, name: str, value: Tensor, axes: tuple[Axis, ...], fill: float) -> Tensor:
        value = self.mask(value, axes, fill)
        self.read(self.graph.by_id[node_id], name, lambda: value, axes)
        return value

    def read(
        self, node: Node, name: str, value: Callable[[], Tensor], axes: tuple[Axis, ...], at: Tensor | None = None
    ) -> None:
        """A value to whoever asked for it."""
        full = f"{node.id}.{name}" if name else node.id
        if full in self.taps:
            self.found[full] = value()
        if self.watch is not None:
            self.watch(Reading(node, name, tuple(a for a in axes if not (isinstance(a, Dim) and a.free)), value, at))

    def mask(self, value: Tensor, axes: tuple[Axis, ...], fill: float) -> Tensor:
        """`value` with masked units of its trailing axes replaced by `fill`."""
        if not any(d.name in self.masks for axis in axes for d in axis.dims()):
            return value
        keep = _axes_mask(axes, self.masks)
        return value.masked_fill(~keep.to(value.device), fill)


class OpScope:
    """What an op's maths sees as `m` when it is executed (see `archc.ir.op.Maths`)."""

    def __init__(
        self,
        op: Op,
        params: Mapping[str, Tensor],
        *,
        segments: Tensor | None = None,
        state: LayerState | None = None,
        run: _Run | None = None,
        node_id: str = "",
    ) -> None:
        self.segments, self.state = segments, state
        self._op, self._run, self._node_id = op, run, node_id
        self._names = {
            **dict.fromkeys(op.optional),
            **op.attributes,
            **{role: d.size for role, d in op.dims.items()},
            **{name: axis.size for name, axis in op.derived().items()},
            **constants(op),
            **params,
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self._names[name]
        except KeyError:
            raise AttributeError(f"{self._op.kind} declares no `{name}`") from None

    def tap(self, name: str, value: Any, *axes: Axis, fill: float = 0.0) -> Any:
        """See `Maths.tap`."""
        if self._run is None or value is None:
            return value
        return self._run.value(self._node_id, name, value, axes, fill)

    def probe(self, name: str, value: Callable[[], Any], *axes: Axis, at: Any = None) -> None:
        """See `Maths.probe`."""
        if self._run is not None:
            self._run.read(self._run.graph.by_id[self._node_id], name, value, axes, at)


def constants(op: Op) -> dict[str, Any]:
    """Values of an op's constants by name."""
    import archc.kernels.reference as primitives

    found: dict[str, Any] = {}
    for constant in op.constants():
        results = getattr(primitives, constant.primitive)(**dict(constant.args))
        found.update(zip(constant.names, results, strict=True))
    return found


def _axes_mask(axes: tuple[Axis, ...], masks: Masks) -> Tensor:
    """Boolean keep-mask [*sizes of the trailing axes]; free axes broadcast."""
    import torch

    model = [a for a in axes if not (isinstance(a, Dim) and a.free)]
    flat = [d for a in model for d in _flat(a)]
    shape = [d.size for d in flat]
    keep = torch.ones(shape, dtype=torch.bool)
    for i, dim in enumerate(flat):
        if dim.name in masks:
            keep = keep & _aligned(masks[dim.name].bool(), dim, flat, i)
    return keep.reshape([a.size for a in model])


def _flat(axis: Axis) -> Iterator[Dim]:
    if isinstance(axis, Concat):
        raise GraphError(f"axis {axis} of several parts cannot be masked: tap its parts")
    yield from axis.dims()


def _aligned(mask: Tensor, dim: Dim, flat: list[Dim], at: int) -> Tensor:
    """A dim's mask shaped to broadcast over the dims of the axes."""
    shape = [1] * len(flat)
    shape[at] = dim.size
    if mask.ndim == 2:
        positions = [next(i for i, d in enumerate(flat) if d.name == outer.name) for outer in dim.outer]
        for i, outer in zip(positions, dim.outer, strict=True):
            shape[i] = outer.size
    if math.prod(shape) != mask.numel():
        expected = f"{dim.size} a unit of its outer dims"
        raise GraphError(f"mask of `{dim.name}` has {list(mask.shape)} entries, expected {expected}")
    return mask.reshape(shape)
