"""Scores as pictures: a plot for each axis, one for the blocks, and the overlay that `archc show` draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from archc.importance.summary import axes
from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import ArchcError, UnknownName
from archc.passes.scores import Scores
from archc.viz.curves import Plot
from archc.viz.overlay import WHOLE, Overlay, Units, Value


def plots(scores: Scores, graph: Graph | None = None) -> Iterator[tuple[str, Plot]]:
    """Plots by a name that is fit for a file: of an axis a curve for each dim, its units from the greatest score."""
    for axis in axes(scores, graph):
        curves = [(name, _ranked(values.ravel())) for name, values in axis.dims.items()]
        yield _file_name(f"{axis.by}-{axis.name}"), Plot(f"{axis.by} of {axis.name}", "rank of the unit", curves)
    for by, found in scores.blocks.items():
        curve = [(float(i), score) for i, score in enumerate(found.values()) if math.isfinite(score)]
        yield _file_name(f"{by}-blocks"), Plot(f"{by} of blocks", "position", [(by, curve)])


def _ranked(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[tuple[float, float]]:
    return [(float(i), float(v)) for i, v in enumerate(np.sort(values)[::-1], 1) if math.isfinite(v)]


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def overlay(scores: Scores, graph: Graph, by: str = "") -> Overlay:
    """The scores by one estimator as an overlay of a model; without `by` the first of units and the first of blocks.

    A dim stands at the first node that has it, a block's score at its node with the most parameters. Raises
    UnknownName for an estimator that there is not, ArchcError where no score is of a node of the model."""
    known = {**scores.units, **scores.blocks}
    if by and by not in known:
        raise UnknownName("estimator in the scores", by, known)
    units_by, blocks_by = (by or next(iter(found), "") for found in (scores.units, scores.blocks))
    nodes: dict[str, dict[str, Value]] = {}
    for block, score in scores.blocks.get(blocks_by, {}).items():
        if math.isfinite(score) and graph.block_nodes(LAYERS, block):
            nodes.setdefault(_main_node(graph, block), {})[WHOLE] = score
    left = dict(scores.units.get(units_by, {}))
    for node in graph.nodes:
        for role, dim in node.op.dims.items():
            values = left.pop(dim.name, None)
            if values is not None and values.size == max(dim.rows, 1) * dim.size:
                nodes.setdefault(node.id, {})[role] = Units(tuple(values.ravel().tolist()))
    if not nodes:
        raise ArchcError(f"no score is of a node of `{graph.name}`")
    told = [found for found, of in ((units_by, scores.units), (blocks_by, scores.blocks)) if found in of]
    return Overlay(f"importance: {', '.join(dict.fromkeys(told))}", nodes, graph.short_hash)


def _main_node(graph: Graph, block: str) -> str:
    """The node of a block with the most parameters."""
    nodes = graph.block_nodes(LAYERS, block)
    return max(nodes, key=lambda n: sum(math.prod(p.shape) for p in n.op.params())).id
