"""An overlay as rows of a table: which layer, which kind of op, which of its dims or parameters, and the values.

Many layers make many rows; `folded` puts those of one kind and key together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from archc.ir.formats import Format
from archc.ir.graph import LAYERS, Graph, Node
from archc.viz.layers import node_letter, number_list
from archc.viz.overlay import WHOLE, Choices, Overlay, Units, Value


@dataclass(frozen=True)
class Numbers:
    """The numbers of one node and key, or of all nodes of a kind. `at` says which layer, or which node.

    `profile` is what is drawn of them: the numbers from the greatest down, or one for each node in order."""

    at: str
    kind: str
    key: str
    least: float
    mean: float
    greatest: float
    count: int
    profile: tuple[float, ...]


@dataclass(frozen=True)
class Words:
    """Nodes of one kind with equal sizes to choose from, or one format."""

    at: str
    kind: str
    key: str
    text: str


@dataclass(frozen=True)
class Rows:
    """What is drawn of an overlay: scores of nodes, numbers of units, and what is said in words."""

    overlay: Overlay
    scores: tuple[Numbers, ...]
    units: tuple[Numbers, ...]
    words: tuple[Words, ...]


Row: TypeAlias = tuple[Node, str, Value]


def rows(graph: Graph, overlay: Overlay, only: Sequence[str] | None = None) -> Rows:
    """The rows of an overlay in the graph's order; of the nodes `only`, if they are named."""
    layer_of = {block: i for i, block in enumerate(graph.blocks.get(LAYERS, ()))}

    def at(node: Node) -> str:
        return str(layer_of[node.block]) if node.region == LAYERS and node.block in layer_of else node.id

    wanted = [node for node in graph.nodes if only is None or node.id in only]
    found = [(node, key, value) for node in wanted for key, value in overlay.nodes.get(node.id, {}).items()]
    return Rows(
        overlay,
        tuple(_score(at(node), node, value) for node, key, value in found if isinstance(value, int | float)),
        tuple(_units(at(node), node, key, value) for node, key, value in found if isinstance(value, Units)),
        tuple(_words([row for row in found if isinstance(row[2], Choices | Format)], at)),
    )


def folded(many: Sequence[Numbers]) -> tuple[Numbers, ...]:
    """One row for each kind and key, its profile the mean of each node in order."""
    groups: dict[tuple[str, str], list[Numbers]] = {}
    for row in many:
        groups.setdefault((row.kind, row.key), []).append(row)
    return tuple(
        Numbers(
            at=f"{len(of)} x",
            kind=kind,
            key=key,
            least=min(row.least for row in of),
            mean=sum(row.mean for row in of) / len(of),
            greatest=max(row.greatest for row in of),
            count=sum(row.count for row in of),
            profile=tuple(row.mean for row in of),
        )
        for (kind, key), of in groups.items()
    )


def _shown_kind(node: Node) -> str:
    letter = node_letter(node)
    return f"{letter} {node.op.kind}" if letter else node.op.kind


def _score(at: str, node: Node, value: float) -> Numbers:
    return Numbers(at, _shown_kind(node), WHOLE, value, value, value, 1, (value,))


def _units(at: str, node: Node, key: str, units: Units) -> Numbers:
    values = sorted(units.values, reverse=True)
    mean = sum(values) / len(values)
    return Numbers(at, _shown_kind(node), key, values[-1], mean, values[0], len(values), tuple(values))


def _words(found: Sequence[Row], at: Callable[[Node], str]) -> list[Words]:
    """Rows of equal kind, key and text together, with the layers they hold for."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for node, key, value in found:
        groups.setdefault((_shown_kind(node), key, _text(node, key, value)), []).append(at(node))
    return [Words(_places(places), kind, key, text) for (kind, key, text), places in groups.items()]


def _text(node: Node, key: str, value: Value) -> str:
    if isinstance(value, Choices):
        return f"{number_list(value.sizes)} of {node.op.dims[key].size}"
    return str(value)


def _places(places: Sequence[str]) -> str:
    layers = [int(place) for place in places if place.isdigit()]
    return ", ".join([*([number_list(layers)] if layers else []), *(p for p in places if not p.isdigit())])
