"""Weights of a rank: of a checkpoint only the rows that this process keeps are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from archc.hub.weights import Weights
from archc.ir import weight_expr as w
from archc.ir.graph import Graph
from archc.ir.weight_eval import evaluate, reader
from archc.ir.weight_formats import DTYPE_BYTES
from archc.ir.weight_index import Index
from archc.ir.weight_normal import Normaliser
from archc.ir.weightmap import WeightMap, substitute

if TYPE_CHECKING:
    from archc.ir.weight_eval import Read
    from archc.ir.weight_formats import Shape

BLOCK_BYTES = 4 * 2**20  # of a parameter, read at once


class Source(Protocol):
    """Where weights come from: expressions over stored tensors, whose shapes and storage types are known."""

    @property
    def made(self) -> WeightMap: ...
    @property
    def stored(self) -> tuple[Mapping[str, Shape], Mapping[str, str]]: ...
    @property
    def read(self) -> Read: ...


@dataclass(frozen=True)
class FromCheckpoint:
    """The weights of a checkpoint, a package or a foreign folder (`archc.hub.weights.weights_of`)."""

    weights: Weights

    @property
    def made(self) -> WeightMap:
        """Every weight over the stored tensors."""
        return self.weights.made

    @property
    def stored(self) -> tuple[Mapping[str, Shape], Mapping[str, str]]:
        """Shapes and storage types of the stored tensors."""
        return self.weights.tensors.shapes, self.weights.tensors.dtypes

    @property
    def read(self) -> Read:
        """Reads stored tensors, or rows of them."""
        return self.weights.tensors.read


class Fresh:
    """Fresh weights: each is drawn whole, so that it does not depend on the mesh, and then cut."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.made = WeightMap({key: _drawn(key, init, shape, seed) for key, init, shape in _inits(graph)})
        self.stored: tuple[Mapping[str, Shape], Mapping[str, str]] = ({}, {})
        self.read = reader({})


class InMemory:
    """Weights that are there, by `<scope>.<param>`."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        from archc.ir.weight_eval import dtype_name

        self.made = WeightMap.identity(tensors)
        shapes = {key: tuple(t.shape) for key, t in tensors.items()}
        self.stored = (shapes, {key: dtype_name(t) for key, t in tensors.items()})
        self.read = reader(tensors)


def _inits(graph: Graph) -> Iterator[tuple[str, tuple[str, tuple[float, ...]], Shape]]:
    for node, param in graph.params():
        yield f"{graph.scopes[node.id]}.{param.name}", (param.init.rule, param.init.args), param.shape


def _drawn(key: str, init: tuple[str, tuple[float, ...]], shape: Shape, seed: int) -> w.WeightExpr:
    return w.Init(seed=seed, rule=init[0], shape=shape, dtype="fp32", args=init[1], key=key)


def source_of(given: Weights | Mapping[str, Tensor] | int, graph: Graph) -> Source:
    """Weights of a checkpoint, or in memory, or fresh ones from a seed."""
    if isinstance(given, Weights):
        return FromCheckpoint(given)
    return Fresh(graph, given) if isinstance(given, int) else InMemory(given)


@dataclass(frozen=True)
class Reader:
    """Reads parts of the weights of one rank: `of_rank` makes its weights of the whole model's."""

    source: Source
    of_rank: WeightMap

    def blocks(self, key: str, axis: int, columns: range, rows: range) -> Iterator[Tensor]:
        """The `rows` of the first axis of a range of positions of `axis`, a few at a time, in order."""
        normaliser = Normaliser(self.source.stored[0])
        whole = substitute(self.of_rank.params[key], self.source.made.params)
        part = normaliser.run(w.Take(whole, axis, Index(columns)))
        step = self._rows_at_once(part, normaliser)
        for start in range(rows.start, rows.stop, step):
            taken = normaliser.take(part, 0, Index(range(start, min(start + step, rows.stop))))
            yield evaluate(taken, self.source.read)

    def _rows_at_once(self, part: w.WeightExpr, normaliser: Normaliser) -> int:
        """A block's worth; all where each block would draw, or read and unpack, the whole again."""
        shapes, dtypes = self.source.stored
        shape = w.shape(part, shapes)
        first = normaliser.take(part, 0, Index([0]))
        if any(isinstance(leaf, w.Init) for leaf in w.leaves(first)) or any(r is None for _, r in w.leaf_reads(first)):
            return shape[0]
        row_bytes = math.prod(shape[1:]) * DTYPE_BYTES[w.dtype(part, dtypes)]
        return max(BLOCK_BYTES // row_bytes, 1)
