"""`archc show --html`: one page, whole in one file, that works offline.

Names come from specs and may be anything: they reach the page as JSON with every `<` escaped, the script writes them
as text, and the page's policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc import __version__
from archc.ir.graph import Graph
from archc.viz.scene import scene

if TYPE_CHECKING:
    from archc.viz.overlay import Overlay

ASSETS = Path(__file__).parent / "assets"
SHOWN = ("dom", "units", "text", "cost", "model", "layout", "draw", "panel", "page")


def page(graph: Graph, overlays: Sequence[Overlay] = ()) -> str:
    """The page of a graph, with overlays to choose from."""
    return render("page", graph.name, scene(graph, overlays), SHOWN)


def render(
    body: str, title: str, data: Mapping[str, Any], scripts: Sequence[str], parts: Mapping[str, str] | None = None
) -> str:
    """A page of `assets/<body>.html` with its data, style and scripts in it, and `parts` of HTML by name in their
    places."""
    script = '"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)} · archc</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="archc {__version__}">',
            f"<style>\n{_asset('page.css')}</style></head>",
            _filled(_asset(f"{body}.html").rstrip(), parts or {}),
            f'<script type="application/json" id="data">{_json(data)}</script>',
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )


def _filled(body: str, parts: Mapping[str, str]) -> str:
    """A body with parts where it says `<!--name-->`."""
    return re.sub(r"<!--(\w+)-->", lambda match: parts[match[1]], body)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _json(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
