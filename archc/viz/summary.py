"""A model at a glance: its pattern, its kinds of block, totals and state. Plain data for the terminal and for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archc.ir.cost import cost_sheet
from archc.ir.cost_sheet import NodeCost, ParamFigures
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph
from archc.ir.op import Op
from archc.spec.pattern import write_pattern

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind and equal sizes: how many, where the first stands, parameters and state of one.

    Of a sequence's state, `state_bytes_fixed` is there however long it is, and `state_bytes_per_token` is added by
    every token (up to the window, where there is one)."""

    letter: str
    kind: str
    first: str
    count: int
    sizes: tuple[tuple[str, int], ...]
    params: int
    state_bytes_fixed: int
    state_bytes_per_token: int


@dataclass(frozen=True)
class Summary:
    """What `archc show` prints. State is of one sequence, in the formats that serving engines keep."""

    name: str
    hash: str
    pattern: str
    layers: int
    mtp_pattern: str
    mtp_steps: int
    kinds: tuple[Kind, ...]
    params: ParamFigures
    weights_bytes: int
    weight_formats: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = dataclasses.asdict(self)
        data["kinds"] = [{**kind, "sizes": dict(kind["sizes"])} for kind in data["kinds"]]
        return data


def summarise(graph: Graph, overlays: Sequence[Overlay] = ()) -> Summary:
    """The summary of a graph."""
    one, two = (cost_sheet(graph, context=tokens, batch=1) for tokens in (1, 2))
    return Summary(
        name=graph.name,
        hash=graph.hash,
        pattern=_pattern(graph, LAYERS),
        layers=len(graph.blocks.get(LAYERS, ())),
        mtp_pattern=_pattern(graph, MTP_LAYERS),
        mtp_steps=graph.mtp_steps,
        kinds=tuple(_kind(graph, a, b) for a, b in zip(one.nodes, two.nodes, strict=True) if a.params or a.state_bytes),
        params=one.params,
        weights_bytes=one.memory.weights_bytes,
        weight_formats=tuple(dict.fromkeys(graph.weight_format(node, param.name) for node, param in graph.params())),
    )


def _pattern(graph: Graph, region: str) -> str:
    """The layer pattern of a region, in the usual letters; a block of several ops is all of theirs."""
    letters = ("".join(_letters(graph, region, block)) for block in graph.blocks.get(region, ()))
    return write_pattern(list(letters))


def _letters(graph: Graph, region: str, block: str) -> Iterator[str]:
    return (_letter(node.op) for node in graph.block_nodes(region, block) if _letter(node.op))


def _letter(op: Op) -> str:
    """The letter of a block's op; none for joints and norms."""
    return op.usual_letter() if op.Fields is not None else ""


def _kind(graph: Graph, one: NodeCost, two: NodeCost) -> Kind:
    return Kind(
        letter=_letter(graph.node(one.nodes[0]).op),
        kind=one.kind,
        first=graph.scope(one.nodes[0]),
        count=one.count,
        sizes=one.sizes,
        params=one.params,
        state_bytes_fixed=2 * one.state_bytes - two.state_bytes,
        state_bytes_per_token=two.state_bytes - one.state_bytes,
    )
