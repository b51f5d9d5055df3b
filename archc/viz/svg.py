"""Writing SVG: a canvas of shapes and texts that follows the reader's light or dark ground, whole in one file."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from archc.viz.structure import printable

FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
# Classes of text and shapes; a class has one colour on light ground and one on dark.
_STYLE = """\
svg { background: #ffffff; } text { fill: #10141a; } .quiet { fill: #5b6672; } .strong { font-weight: 600; }
.stream { stroke: #7d8896; stroke-width: 4; } .wire { stroke: #7d8896; stroke-width: 1.5; fill: none; }
.head { fill: #7d8896; } .joint { fill: #ffffff; stroke: #7d8896; stroke-width: 1.5; } .on { fill: #10141a; }
.plain { fill: #f5f7f9; stroke: #d3d9e0; } .frame { fill: #aab2bd1a; stroke: #c3cad3; stroke-dasharray: 5 4; }
.gone { fill: none; stroke: #c0392b; stroke-width: 1.5; stroke-dasharray: 4 3; }
.new { stroke: #2f8f5b; stroke-width: 2; } .rule { stroke: #d3d9e0; }
.worse { fill: #c0392b; } .better { fill: #2f8f5b; } .whole { fill: #aab2bd; }
.tie { fill: none; stroke: #c3cad3; stroke-width: 1.5; } .changed { stroke: #f0a03c; }
.replaced { stroke: #e8785a; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  svg { background: #12161c; } text { fill: #e8edf3; } .quiet { fill: #9aa7b5; } .on { fill: #10141a; }
  .joint { fill: #12161c; } .plain { fill: #1b2129; stroke: #36404c; } .frame { stroke: #4a5663; }
  .gone { stroke: #ef8477; } .new { stroke: #63c794; } .rule { stroke: #36404c; }
  .worse { fill: #ef8477; } .better { fill: #63c794; } .whole { fill: #5d6875; } .tie { stroke: #4a5663; }
  .changed { stroke: #f0a03c; } .replaced { stroke: #e8785a; }
}"""

_NARROW, _WIDE = frozenset("ijl|.,:;'!ftrI1-[]() "), frozenset("mwMW@%")


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in pixels: no font is at hand to ask."""
    return size * sum(map(_width, text))


def _width(c: str) -> float:
    """How wide a character is, of its height."""
    if c in _NARROW:
        return 0.36
    if c in _WIDE or unicodedata.east_asian_width(c) in "WF":
        return 1.0
    return 0.6


def fitted(text: str, width: float, size: float) -> str:
    """The text, cut with an ellipsis where it would be wider."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


@dataclass
class Canvas:
    """Shapes and texts, in the order in which they are drawn."""

    width: float
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, *, size: float = 12, style: str = "", anchor: str = "", width: float = 0
    ) -> None:
        """A text at its baseline, cut to `width` if one is given."""
        shown = fitted(printable(text), width, size) if width else printable(text)
        if shown:
            attributes = self._attributes(("class", style), ("text-anchor", anchor))
            self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{attributes}>{escape(shown)}</text>')

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "",
        style: str = "",
        rx: float = 0,
        title: str = "",
    ) -> None:
        """A rectangle, with a title that viewers show when one points at it."""
        attributes = self._attributes(("fill", fill), ("class", style), ("rx", f"{rx:g}" if rx else ""))
        shape = f'<rect x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{max(height, 0):g}"{attributes}'
        self.parts.append(f"{shape}><title>{escape(printable(title))}</title></rect>" if title else f"{shape}/>")

    def path(self, d: str, *, style: str) -> None:
        """A path."""
        self.parts.append(f'<path d="{d}" class="{style}"/>')

    def circle(self, x: float, y: float, r: float, *, style: str, title: str = "") -> None:
        """A circle, with a title that viewers show when one points at it."""
        shape = f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" class="{style}"'
        self.parts.append(f"{shape}><title>{escape(printable(title))}</title></circle>" if title else f"{shape}/>")

    def arrow(self, start: float, end: float, y: float) -> None:
        """A horizontal arrow that ends at `end`."""
        self.path(f"M{start:g},{y:g} H{end - 4:g}", style="wire")
        self.path(f"M{end - 1:g},{y:g} l-7,-3.5 v7 z", style="head")

    def svg(self, height: float, title: str, style: str = "") -> str:
        """The file's text; `style` has classes beyond the usual ones."""
        size = f'viewBox="0 0 {self.width:g} {height:g}" width="{self.width:g}" height="{height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">'
        name = f"<title>{escape(printable(title))}</title>"
        return "\n".join([head, name, f"<style>{_STYLE}{style}</style>", *self.parts, "</svg>\n"])

    def inline(self, height: float, title: str) -> str:
        """The same inside a page, whose style it has."""
        size = f'viewBox="0 0 {self.width:g} {height:g}"'
        head = f'<svg {size} role="img" aria-label={quoteattr(printable(title))} font-family="{FONT}">'
        return "\n".join([head, *self.parts, "</svg>"])

    @staticmethod
    def _attributes(*named: tuple[str, str]) -> str:
        return "".join(f" {name}={quoteattr(value)}" for name, value in named if value)
