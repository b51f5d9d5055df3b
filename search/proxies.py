"""Rung 1: what is lost with a candidate, without data and without a model: by importance, and by capacity.

Both are sums over choices, so that thousands of candidates are scored at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import SearchError
from archc.passes.scores import Scores
from archc.search.choices import Choice, Count, Points, Size
from archc.search.figures import Figure, Meter, Values
from archc.search.space import Space


class Proxy(Protocol):
    """Scores many points at once; less is better."""

    def values(self, points: Points) -> Values:
        """The score of every point."""
        ...


@dataclass(frozen=True)
class Capacity:
    """How much less a candidate has of some figures than the base: the sum of weight x ln(base / candidate).

    A candidate that has none of a figure that the base has counts as having one."""

    meter: Meter
    weights: Mapping[Figure, float]

    def values(self, points: Points) -> Values:
        base = {name: np.array([value], dtype=np.int64) for name, value in self.meter.space.base.items()}
        total = np.zeros(len(next(iter(points.values()))))
        for figure, weight in self.weights.items():
            had = float(self.meter.take(figure, base)[0])
            if had > 0:
                total += weight * (math.log(had) - np.log(np.maximum(self.meter.take(figure, points), 1.0)))
        return total


@dataclass(frozen=True)
class Retained:
    """The share of importance that a candidate loses, over the parameters that it lies in.

    A size that goes down loses the scores of its least units, as a share of all scores of the dim, in the share of the
    base's parameters that lie along it (the scores `by` which units are kept). A layer that goes loses its own share
    of the scores of its kind's layers (`by_layer`), or of parameters where those are not measured. Sums of shares, each
    from 0 to 1: what is lost twice counts twice."""

    space: Space
    scores: Scores
    by: str
    by_layer: str = ""

    def __post_init__(self) -> None:
        if self.space.has_options:
            raise SearchError("importance is that of the base: a space with options changes more than its units")

    def values(self, points: Points) -> Values:
        total = np.zeros(len(next(iter(points.values()))))
        for choice in self.space.choices:
            values, inverse = np.unique(points[choice.name], return_inverse=True)
            total += np.array([self.lost(choice, int(value)) for value in values])[inverse.ravel()]
        return total

    def lost(self, choice: Choice, value: int) -> float:
        """What one choice loses. Raises SearchError for a value beyond the base's, PassError without scores."""
        if value > choice.base:
            raise SearchError(f"`{choice.name}` is {choice.base} in the base: {value} retains nothing of more")
        if isinstance(choice, Size):
            return sum(self._lost_units(name, value // each) for name, each in choice.dims)
        return self._lost_layers(choice, value) if isinstance(choice, Count) else 0.0

    def _lost_units(self, dim: str, kept: int) -> float:
        rows = np.sort(self.scores.of(self.space.graph.dims[dim], self.by), axis=-1)[:, ::-1]
        sums = rows.sum(axis=1)
        shares = rows[:, kept:].sum(axis=1) / np.where(sums > 0, sums, 1.0)
        return float(shares.mean()) * _share_along(self.space.graph, dim)

    def _lost_layers(self, choice: Count, value: int) -> float:
        own = choice.order[choice.extra :]
        shares = {block: _share_within(self.space.graph, block) for block in own}
        gone = own[: max(len(own) - value, 0)]
        if not self.by_layer:
            return sum(shares[block] for block in gone)
        known = {block: self.scores.of_block(block, self.by_layer) for block in own}
        whole = sum(known.values())
        return sum(shares.values()) * sum(known[block] for block in gone) / whole if whole > 0 else 0.0


def _share_along(graph: Graph, dim: str) -> float:
    """The share of parameters that lie along a dim."""
    return _share(graph, (p.shape for _, p in graph.params() if any(d.name == dim for a in p.axes for d in a.dims())))


def _share_within(graph: Graph, block: str) -> float:
    """The share of parameters that a block has."""
    return _share(graph, (p.shape for node, p in graph.params() if (node.region, node.block) == (LAYERS, block)))


def _share(graph: Graph, shapes: Iterator[Sequence[int]]) -> float:
    return sum(map(math.prod, shapes)) / sum(math.prod(p.shape) for _, p in graph.params())
