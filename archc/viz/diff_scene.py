"""What is drawn of a diff, as plain data: aligned rows, folded where they repeat, the changes and their effect."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from archc.diff_table import FIGURES, maxima, tells, told
from archc.ir.diff import Diff, Row
from archc.ir.diff_cost import Effect
from archc.ir.graph import Graph, Node
from archc.viz.colours import colour
from archc.viz.fields import sizes_text
from archc.viz.fold import Fold, fold
from archc.viz.structure import title_op


def diff_scene(diff: Diff) -> dict[str, Any]:
    """Everything the page of a diff needs, as plain data for JSON."""
    rows = [_row(diff, row) for row in diff.rows]
    effect = {"words": told(diff), "figures": [*_figures(diff.effect), *_maxima(diff.effect)]}
    return {**diff.to_json(), "rows": rows, "items": list(_items(diff.rows, rows)), "effect": effect}


def _row(diff: Diff, row: Row) -> dict[str, Any]:
    sides = {"a": _side(diff.a, row, row.a), "b": _side(diff.b, row, row.b)}
    return {**row.to_json(), **sides}


def _side(graph: Graph, row: Row, name: str | None) -> dict[str, Any] | None:
    """How one side of a row is drawn: its name and letter, colour, sizes and parameters."""
    if name is None:
        return None
    nodes = unit_nodes(graph, row.region, name)
    op = title_op(nodes)
    paint, block = colour(op.kind), op.Fields is not None
    return {
        "name": name,
        "letter": op.usual_letter() if block else "",
        "fill": paint.fill,
        "ink": paint.ink,
        "block": block,
        "text": sizes_text(op),
        "params": unit_params(nodes),
    }


def unit_nodes(graph: Graph, region: str, name: str) -> Sequence[Node]:
    """The nodes of a row's side: of a block, or the one that stands in none."""
    return graph.block_nodes(region, name) or (graph.node(name),)


def unit_params(nodes: Sequence[Node]) -> int:
    """Parameters that the nodes own."""
    return sum(node.op.elements(p).evaluate({r: d.size for r, d in node.op.dims.items()})
               for node in nodes if not node.owner for p in node.op.params())  # fmt: skip


# -- cost --------------------------------------------------------------------------------------------------------------


def _figures(effect: Effect) -> Iterator[dict[str, Any]]:
    """Every figure of A and B with each change's share of the difference."""
    for figure in FIGURES:
        if tells(effect, figure):
            ends = {"a": effect.first[figure.name], "b": effect.last[figure.name]}
            shares = [stage.added[figure.name] for stage in effect.stages]
            yield {
                "name": figure.name,
                "words": figure.label.strip(),
                "unit": _unit(figure.name),
                **ends,
                "shares": shares,
            }


def _maxima(effect: Effect) -> Iterator[dict[str, Any]]:
    """Figures that are no sums, so that no change has a share of them."""
    for label, (a, b) in maxima(effect.a, effect.b):
        yield {"words": label, "unit": "bytes", "a": a, "b": b}


def _unit(name: str) -> str:
    return {"bytes": "bytes", "flops": "flops", "s": "seconds"}.get(name.rpartition("_")[2], "count")


# -- folding -----------------------------------------------------------------------------------------------------------


def _items(rows: Sequence[Row], drawn: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows one by one, runs of unchanged ones as one item, and what repeats as rounds of items."""
    for _, group in itertools.groupby(_runs(rows), key=lambda item: rows[item["rows"][0]].region):
        items = list(group)
        keys = [_key([(rows[i], drawn[i]) for i in item["rows"]]) for item in items]
        yield from _folded(items, fold(keys), 0)


def _runs(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Each row, or two and more unchanged ones of one region together."""
    for (same, _), run in itertools.groupby(range(len(rows)), key=lambda i: (rows[i].status == "same", rows[i].region)):
        members = list(run)
        if same and len(members) > 1:
            yield {"rows": members}
        else:
            yield from ({"rows": [i]} for i in members)


def _key(rows: Sequence[tuple[Row, dict[str, Any]]]) -> Hashable:
    """What repeats: how rows differ, and what they are."""
    return tuple(
        (r.status, r.region, r.a_kind, r.b_kind, str(r.fields), *map(_text, (d["a"], d["b"]))) for r, d in rows
    )


def _text(side: dict[str, Any] | None) -> str:
    return "" if side is None else side["text"]


def _folded(items: Sequence[dict[str, Any]], folds: Sequence[Fold], offset: int) -> Iterator[dict[str, Any]]:
    for one in folds:
        start = one.start + offset
        if one.times == 1:
            yield items[start]
            continue
        inner = one.inner or (Fold(one.start, 1, 1),)
        yield {"rounds": [list(_folded(items, inner, offset + n * one.length)) for n in range(one.times)]}
