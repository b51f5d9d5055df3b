"""A model at a glance: its layers, its kinds of block, totals and state. Plain data for the terminal and for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archc.ir.cost import cost_sheet
from archc.ir.cost_sheet import NodeCost, ParamFigures
from archc.ir.graph import LAYERS, MTP_LAYERS, Graph
from archc.spec.pattern import write_pattern
from archc.viz.fields import told_sizes
from archc.viz.layers import Strip, node_letter, strip

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay
    from archc.viz.overlay_rows import Rows

# The context at which the state of a sequence is told, and how it grows: beyond the usual windows.
STATE_AT = 8192


@dataclass(frozen=True)
class Kind:
    """Nodes of one kind and equal sizes: how many, where the first stands, parameters and state of one.

    `letter` is marked as the layers are where all of them are of one mark; `told` are its sizes in short.
    Of a sequence's state at a context of STATE_AT, `state_bytes_per_token` is what the next token adds, and
    `state_bytes_fixed` what does not grow with it: of an attention with a window all of it."""

    letter: str
    kind: str
    first: str
    count: int
    sizes: tuple[tuple[str, int], ...]
    told: tuple[tuple[str, str], ...]
    mtp: bool
    params: int
    state_bytes_fixed: int
    state_bytes_per_token: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "sizes": dict(self.sizes), "told": dict(self.told)}


@dataclass(frozen=True)
class Summary:
    """What `archc show` prints. State is of one sequence, in the formats that serving engines keep."""

    name: str
    hash: str
    layers: Strip
    mtp: Strip
    mtp_steps: int
    kinds: tuple[Kind, ...]
    params: ParamFigures
    weights_bytes: int
    weight_formats: tuple[str, ...]
    overlays: tuple[Rows, ...]

    @property
    def state_bytes_per_token(self) -> int:
        """Bytes of state that a token adds."""
        return sum(kind.count * kind.state_bytes_per_token for kind in self.kinds)

    @property
    def state_bytes_fixed(self) -> int:
        """Bytes of state of a sequence however long it is."""
        return sum(kind.count * kind.state_bytes_fixed for kind in self.kinds)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON: `layers` and `mtp_layers` count them, `blocks` and `mtp_blocks` list them."""
        overlays = {"overlays": [rows.overlay.to_json() for rows in self.overlays]} if self.overlays else {}
        return {
            "name": self.name,
            "hash": self.hash,
            **_strip_json("", self.layers),
            **_strip_json("mtp_", self.mtp),
            "mtp_steps": self.mtp_steps,
            "kinds": [kind.to_json() for kind in self.kinds],
            "params": dataclasses.asdict(self.params),
            "weights_bytes": self.weights_bytes,
            "weight_formats": list(self.weight_formats),
            "state_bytes_per_token": self.state_bytes_per_token,
            "state_bytes_fixed": self.state_bytes_fixed,
            **overlays,
        }


def summarise(graph: Graph, overlays: Sequence[Overlay] = ()) -> Summary:
    """The summary of a graph."""
    one, two = (cost_sheet(graph, context=tokens, batch=1) for tokens in (STATE_AT, STATE_AT + 1))
    layers, mtp = strip(graph, LAYERS), strip(graph, MTP_LAYERS)
    regions = ((LAYERS, layers), (MTP_LAYERS, mtp))
    marks = {(region, layer.block): layer.mark for region, of in regions for layer in of.layers}
    costed = zip(one.nodes, two.nodes, strict=True)
    return Summary(
        name=graph.name,
        hash=graph.hash,
        layers=layers,
        mtp=mtp,
        mtp_steps=graph.mtp_steps,
        kinds=tuple(_kind(graph, marks, a, b) for a, b in costed if a.params or a.state_bytes),
        params=one.params,
        weights_bytes=one.memory.weights_bytes,
        weight_formats=tuple(dict.fromkeys(graph.weight_format(node, param.name) for node, param in graph.params())),
        overlays=_rows(graph, overlays),
    )


def _rows(graph: Graph, overlays: Sequence[Overlay]) -> tuple[Rows, ...]:
    if not overlays:
        return ()
    from archc.viz.overlay_rows import rows

    return tuple(rows(graph, overlay) for overlay in overlays)


def _strip_json(prefix: str, of: Strip) -> dict[str, Any]:
    return {
        f"{prefix}pattern": write_pattern([layer.letter for layer in of.layers]),
        f"{prefix}folded": of.folded,
        f"{prefix}layers": len(of.layers),
        f"{prefix}blocks": [layer.to_json() for layer in of.layers],
        f"{prefix}variants": [variant.to_json() for variant in of.variants],
    }


def _kind(graph: Graph, marks: Mapping[tuple[str, str], str], one: NodeCost, two: NodeCost) -> Kind:
    nodes = [graph.node(name) for name in one.nodes]
    letter = node_letter(nodes[0])
    shared = {marks.get((node.region, node.block), "") for node in nodes}
    mark = shared.pop() if letter and len(shared) == 1 else ""
    return Kind(
        letter=mark if mark.partition("'")[0] == letter else letter,
        kind=one.kind,
        first=graph.scope(one.nodes[0]),
        count=one.count,
        sizes=one.sizes,
        told=tuple(told_sizes(nodes[0].op).items()),
        mtp=one.mtp,
        params=one.params,
        state_bytes_fixed=one.state_bytes - STATE_AT * (two.state_bytes - one.state_bytes),
        state_bytes_per_token=two.state_bytes - one.state_bytes,
    )
