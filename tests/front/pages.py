"""Pages as a browser reads them: what they hold, that they ask for nothing, and what does not fit on a screen."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--<script>", "\"'&amp;]]>\u2028")


class Reader(HTMLParser):
    """What a browser makes of a page: its elements, its attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside][-1] += data


def read_alone(text: str) -> Any:
    """The data of a page that is one file, asks for nothing, and whose policy lets its own script run and no other."""
    read = Reader(text)
    tags = Counter(tag for tag, _ in read.elements)
    assert not tags.keys() & {"link", "img", "iframe", "object", "embed", "base", "image", "use"}
    assert tags["script"] == 2 and tags["style"] == 1
    for tag, attributes in read.elements:
        assert not attributes.keys() & {"src", "href", "action", "srcset"}, tag
        assert not [name for name in attributes if name.startswith("on")], tag
    (data, script), (style,) = read.texts["script"], read.texts["style"]
    assert not re.search(
        r"\b(import|fetch|XMLHttpRequest|WebSocket|eval|innerHTML|outerHTML|insertAdjacentHTML)\b", script
    )
    assert not re.search(r"url\(|@import|@font-face", style)
    assert re.findall(r"https?://[^\s\"]+", script + style) == ["http://www.w3.org/2000/svg"]
    policy = next(a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    return json.loads(data)


def overflowing(page: Page, boxes: str) -> list[str]:
    """Texts of drawings that reach beyond their drawing, and which of the `boxes` (a CSS selector) are wider than they
    may be, or than the screen."""
    script = """(boxes) => {
      const found = [];
      for (const svg of document.querySelectorAll("svg")) {
        const { left, right } = svg.getBoundingClientRect();
        for (const text of svg.querySelectorAll("text")) {
          const box = text.getBoundingClientRect();
          if (box.left < left - 1 || box.right > right + 1) found.push(`text: ${text.textContent}`);
        }
      }
      for (const box of document.querySelectorAll(boxes)) {
        const wide = getComputedStyle(box).display !== "inline" && box.scrollWidth > box.clientWidth + 1;
        if (wide || box.getBoundingClientRect().right > innerWidth) found.push(`${box.tagName}: ${box.textContent}`);
      }
      return found;
    }"""
    return list(page.evaluate(script, boxes))
