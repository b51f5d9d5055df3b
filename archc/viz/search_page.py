"""The report of a search: one page, whole in one file, that works offline. Front and table are there without scripts.

Drawn from what a search has written alone, so that it can be drawn again, and of a run on another machine.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from archc.viz.page import render
from archc.viz.search_picture import inline_picture
from archc.viz.search_scene import column_text, search_scene
from archc.viz.structure import printable

_OWN = ("plot", "data", "front", "panel", "library", "bars", "history", "parallel", "page")
SCRIPTS = ("dom", "units", "text", *(f"search/{name}" for name in _OWN))
MOST_EXCLUDED = 200


def search_page(results: Mapping[str, Any], run: str) -> str:
    """The page of the results in the folder `run`."""
    scene = search_scene(results, run)
    parts = {
        "name": _text(scene["name"]),
        "told": "".join(f"<li>{_text(line)}</li>" for line in scene["told"]),
        "front": inline_picture(scene),
        "table": "".join(_table(scene)),
        "excluded": "".join(_excluded(results)),
    }
    return render("search", scene["name"], scene, SCRIPTS, parts)


def _table(scene: Mapping[str, Any]) -> Iterator[str]:
    """The base and every recorded candidate, a row each; `data-i` is a candidate's position."""
    yield '<table id="table"><thead><tr><th>candidate</th>'
    for column in scene["columns"]:
        yield f'<th class="number" title="{_text(column["text"])}">{_breakable(column["label"])}</th>'
    yield "</tr></thead><tbody>"
    yield from _row(scene, {"name": f"base ({scene['base']})", "front": False, **scene["base_row"]}, "")
    for one in scene["compared"]:
        yield from _row(scene, {"front": False, **one}, "")
    for i, candidate in enumerate(scene["candidates"]):
        yield from _row(scene, candidate, str(i))
    yield "</tbody></table>"


def _row(scene: Mapping[str, Any], candidate: Mapping[str, Any], i: str) -> Iterator[str]:
    yield f'<tr data-i="{i}"{"" if candidate["fits"] else " class=off"}><td>{_text(candidate["name"])}'
    marked = {"front": candidate["front"], "knee": candidate["name"] == scene["knee"]}
    marked["best"] = candidate["name"] == scene["best"] != scene["knee"]
    yield from (f' <span class="badge {name}">{name}</span>' for name, is_one in marked.items() if i and is_one)
    yield "</td>"
    for column, value in zip(scene["columns"], candidate["row"], strict=True):
        yield f'<td class="number">{_text(column_text(column, value))}</td>'
    yield "</tr>"


def _excluded(results: Mapping[str, Any]) -> Iterator[str]:
    """What the runtime that the search is for does not load, and why."""
    excluded = results.get("excluded") or ()
    if not excluded:
        return
    yield f"<details><summary>{len(excluded):,} left out: {_text(results['target'])} does not load them</summary><ul>"
    yield from (f"<li>{_text(one['what'])}: {_text(one['why'])}</li>" for one in excluded[:MOST_EXCLUDED])
    if len(excluded) > MOST_EXCLUDED:
        yield f"<li>and {len(excluded) - MOST_EXCLUDED:,} more: results.json has them</li>"
    yield "</ul></details>"


def _breakable(label: str) -> str:
    """A label that may break after its dots and underscores."""
    return _text(label).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _text(value: object) -> str:
    return html.escape(printable(str(value)))
