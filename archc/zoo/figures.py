"""Published parameter counts against the ones a spec gives, under the convention that the spec names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from archc.units import parse_params

if TYPE_CHECKING:
    from archc.ir.graph import Graph, Node
    from archc.ir.op import Param
    from archc.spec.model import Figure, Spec

# What a convention may leave out, and which parameters that is.
LEFT_OUT: Mapping[str, Callable[[Graph, Node, Param], bool]] = {
    "input_embedding": lambda graph, node, param: node.id == "embedding" and not _tied(graph),
    "output_embedding": lambda graph, node, param: node.id == ("embedding" if _tied(graph) else "lm_head"),
    "router": lambda graph, node, param: param.name == "router",
    "mtp": lambda graph, node, param: graph.in_mtp(node),
}


@dataclass(frozen=True)
class Row:
    """One published figure, the count it stands against, and whether they agree."""

    model: str
    figure: Figure
    counted: int

    @property
    def agrees(self) -> bool:
        """Whether the count is within one unit of the figure's last printed digit."""
        return abs(self.counted - parse_params(self.figure.text)) <= last_digit(self.figure.text)

    @property
    def gap(self) -> int:
        """The count less the figure."""
        return self.counted - parse_params(self.figure.text)


def rows(spec: Spec) -> Iterator[Row]:
    """Every published figure of a spec against its graph."""
    graph = spec.graph() if spec.published else None
    for figure in spec.published:
        if graph is not None:
            yield Row(spec.name, figure, count(graph, figure.metric, figure.without))


def count(graph: Graph, metric: str, without: Sequence[str] = ()) -> int:
    """Parameters and persistent buffers, each once: `total`, or `active` for one token, without what is named."""
    counted = Fraction(0)
    for node, param in graph.params():
        if not any(LEFT_OUT[part](graph, node, param) for part in without):
            counted += math.prod(param.shape) * (_share(node, param) if metric == "active" else 1)
    return round(counted)


def last_digit(text: str) -> int:
    """One unit of a figure's last printed digit: 100000000 for `31.6B`."""
    number = re.match(r"[\d_]+(?:\.(\d+))?", text.strip())
    decimals = len(number[1] or "") if number else 0
    unit = parse_params("1" + text.strip()[number.end() :]) if number else 1
    return round(Fraction(unit, 10**decimals))


def _share(node: Node, param: Param) -> Fraction:
    """The part of a parameter that one token meets."""
    return Fraction(param.share.evaluate({role: dim.size for role, dim in node.op.dims.items()}))


def _tied(graph: Graph) -> bool:
    return bool(graph.node("lm_head").owner)
