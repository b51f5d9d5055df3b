"""What is drawn of a diff, as plain data: aligned rows, folded where they repeat, the changes and their effect."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from archc.diff_table import FIGURES, maxima, tells, told
from archc.ir.diff import Diff, Row
from archc.ir.diff_changes import Change
from archc.ir.diff_cost import Effect
from archc.ir.diff_pairs import Slot
from archc.ir.graph import Graph, Node
from archc.viz.colours import colour
from archc.viz.fields import sizes_text
from archc.viz.fold import Fold, fold
from archc.viz.structure import title_op


def diff_scene(diff: Diff) -> dict[str, Any]:
    """Everything the page of a diff needs, as plain data for JSON."""
    touched = [_touched(diff, change) for change in diff.changes]
    rows = [
        {**_row(diff, row), "changes": [n for n, found in enumerate(touched) if i in found]}
        for i, row in enumerate(diff.rows)
    ]
    effect = {"words": told(diff), "figures": [*_figures(diff.effect), *_maxima(diff.effect)]}
    items = list(_items(diff, rows))
    return {**diff.to_json(), "rows": rows, "items": items, "effect": effect}


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


def _touched(diff: Diff, change: Change) -> set[int]:
    """Indexes of the rows that a change says something of."""
    found = {diff.paired.slots[i].match for i, _ in change.switches}
    if change.dims is not None:
        found |= {slot.match for slot in diff.paired.slots if _has(slot, change.dims)}
    if change.kind == "wiring":
        ids = {(edit.a, edit.b) for edit in change.edits}
        found |= {s.match for s in diff.paired.slots if (s.a and s.a.id, s.b and s.b.id) in ids}
    if change.kind == "link":
        places = {(edit.a, edit.b) for edit in change.edits}
        here = ((i, row) for i, row in enumerate(diff.rows) if row.region == change.region)
        found |= {i for i, row in here if (_place(row.a_position, row.a), _place(row.b_position, row.b)) in places}
    return found


def _has(slot: Slot, names: tuple[str, str]) -> bool:
    """Whether a node of a slot has the dim of its side."""
    sides = zip((slot.a, slot.b), names, strict=True)
    return any(node is not None and name in (dim.name for dim in node.op.dims.values()) for node, name in sides)


def _place(position: int | None, name: str | None) -> int | str | None:
    return name if position is None else position


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


def _items(diff: Diff, drawn: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows one by one, runs of unchanged ones as one item, and what repeats as rounds of items."""
    rows = diff.rows
    for _, group in itertools.groupby(_runs(diff, drawn), key=lambda item: rows[item["rows"][0]].region):
        items = list(group)
        keys = [_key([(rows[i], drawn[i]) for i in item["rows"]]) for item in items]
        yield from _folded(items, fold(keys), 0)


def _runs(diff: Diff, drawn: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each row, or two and more of one region together that no change tells of but one of shared dims."""
    own = {n for n, change in enumerate(diff.changes) if change.dims is None}
    plain = [row.status == "same" and not own & set(one["changes"]) for row, one in zip(diff.rows, drawn, strict=True)]
    for (same, _), run in itertools.groupby(range(len(plain)), key=lambda i: (plain[i], diff.rows[i].region)):
        members = list(run)
        if same and len(members) > 1:
            yield {"rows": members}
        else:
            yield from ({"rows": [i]} for i in members)


def _key(rows: Sequence[tuple[Row, dict[str, Any]]]) -> Hashable:
    """What repeats: how rows differ, what tells of them, and what they are."""
    return tuple(
        (r.status, r.a_kind, r.b_kind, str(r.fields), *d["changes"], *map(_text, (d["a"], d["b"]))) for r, d in rows
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
