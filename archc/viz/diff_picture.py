"""`archc diff A B --svg`: both models' layers, lines between those that correspond, and what each change costs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from archc.diff_table import FIGURES, Figure, signed, tells, told
from archc.ir.diff import Diff, Row
from archc.ir.graph import LAYERS
from archc.viz.colours import colour
from archc.viz.diff_scene import unit_nodes, unit_params
from archc.viz.structure import title_op
from archc.viz.svg import Canvas

if TYPE_CHECKING:
    from archc.hub.compare import WeightsDiff

WIDTH, MARGIN = 920, 20
_BAR, _BETWEEN = 44, 62  # heights of a strip's bars, and of the lines between the strips
_LINE, _FALL = 18, 13
_COLUMN = 118  # characters of a line of words
_DRAWN = ("params", "resident_bytes", "decode_s", "decode_flops")  # figures with a waterfall, two of them


def diff_picture(diff: Diff, weights: WeightsDiff | None = None) -> str:
    """The picture of a diff, with a line on what became of the weights where they were compared."""
    return _Picture(diff, [] if weights is None else weights.words()).drawn()


@dataclass(frozen=True)
class _Layer:
    """A bar of a strip: where it stands, its colour and height, in which strip, and its style if it stands alone."""

    at: int
    fill: str
    params: int
    above: bool
    style: str


@dataclass
class _Picture:
    diff: Diff
    of_weights: Sequence[str]
    y: float = 0.0

    def __post_init__(self) -> None:
        self.canvas = Canvas(WIDTH)

    def drawn(self) -> str:
        """The file's text."""
        self.headline()
        self.strips()
        self.changes()
        self.waterfalls()
        return self.canvas.svg(self.y + 10, f"{self.diff.a.name} to {self.diff.b.name}, drawn by archc")

    def headline(self) -> None:
        """Both names."""
        names = f"{self.diff.a.name}  →  {self.diff.b.name}"
        self.canvas.text(MARGIN, 34, names, size=20, style="strong", width=WIDTH - 2 * MARGIN)
        self.canvas.text(MARGIN, 54, told(self.diff), style="quiet", width=WIDTH - 2 * MARGIN)
        self.y = 72

    # -- layers --------------------------------------------------------------------------------------------------------

    def strips(self) -> None:
        """A's layers above, B's below, a line between those that correspond."""
        rows = [row for row in self.diff.rows if row.region == LAYERS]
        sides = [list(self.side(rows, "a")), list(self.side(rows, "b"))]
        longest = max(map(len, sides))
        if not longest:
            return
        step = (WIDTH - 2 * MARGIN) / longest
        top, bottom = self.y + _BAR, self.y + _BAR + _BETWEEN
        for row in rows:
            self.tie(row, step, top, bottom)
        largest = max(1, *(layer.params for side in sides for layer in side))
        for layer in itertools.chain(*sides):
            tall = max(3.0, _BAR * layer.params / largest)
            y = top - tall if layer.above else bottom
            fill = "" if layer.style == "gone" else layer.fill
            self.canvas.rect(MARGIN + (layer.at + 0.08) * step, y, 0.84 * step, tall, fill=fill, style=layer.style)
        self.y = bottom + _BAR + 26

    def side(self, rows: Sequence[Row], name: Literal["a", "b"]) -> Iterator[_Layer]:
        """One model's layers."""
        graph = getattr(self.diff, name)
        for row in rows:
            block, position = getattr(row, name), getattr(row, f"{name}_position")
            if block is not None and position is not None:
                nodes = unit_nodes(graph, LAYERS, block)
                fill = colour(title_op(nodes).kind).fill
                style = {"dropped": "gone", "added": "new"}.get(row.status, "")
                yield _Layer(position, fill, unit_params(nodes), name == "a", style)

    def tie(self, row: Row, step: float, top: float, bottom: float) -> None:
        """The line between two layers that correspond."""
        if row.a_position is None or row.b_position is None:
            return
        a, b = (MARGIN + (at + 0.5) * step for at in (row.a_position, row.b_position))
        middle = (top + bottom) / 2
        style = "tie" if row.status == "same" else f"tie {row.status}"
        self.canvas.path(
            f"M{a:.1f},{top + 4:g} C{a:.1f},{middle:g} {b:.1f},{middle:g} {b:.1f},{bottom - 4:g}", style=style
        )

    # -- words and costs -----------------------------------------------------------------------------------------------

    def changes(self) -> None:
        """Every change in words, numbered."""
        for i, change in enumerate(self.diff.changes, 1):
            self.words(str(i), change.words)
        for words in self.of_weights:
            self.words("w", words)
        self.y += 16

    def words(self, mark: str, words: str) -> None:
        """Words after a mark, on as many lines as they need."""
        for n, line in enumerate(textwrap.wrap(words, _COLUMN)):
            if n == 0:
                self.canvas.text(MARGIN, self.y, mark, size=13, style="quiet")
            self.canvas.text(MARGIN + 24, self.y, line, size=13, width=WIDTH - 2 * MARGIN - 24)
            self.y += _LINE

    def waterfalls(self) -> None:
        """From A to B in parameters, and in memory, beside one another; time where there is hardware."""
        shown = [f for name in _DRAWN for f in FIGURES if f.name == name and tells(self.diff.effect, f)][:3]
        width = (WIDTH - 2 * MARGIN - 28 * (len(shown) - 1)) / max(len(shown), 1)
        tops = [self.waterfall(figure, MARGIN + n * (width + 28), width) for n, figure in enumerate(shown)]
        self.y = max(tops, default=self.y)

    def waterfall(self, figure: Figure, left: float, width: float) -> float:
        """The bars of one figure; where they end."""
        bars = list(self.bars(figure))
        high = max(max(start, end) for _, start, end, _ in bars) or 1
        low = min(0.0, *(min(start, end) for _, start, end, _ in bars))
        self.canvas.text(left, self.y, figure.label.strip(), style="strong", width=width)
        y = self.y + 10
        for name, start, end, text in bars:
            x, length = (min(start, end) - low) / (high - low) * width, abs(end - start) / (high - low) * width
            style = "whole" if name in "AB" else "worse" if end > start else "better"
            self.canvas.text(left, y + 12, name, size=11, style="quiet")
            self.canvas.text(left + width, y + 12, text, size=11, anchor="end")
            self.canvas.rect(left + x, y + 16, max(length, 1.5), _FALL, style=style, rx=2)
            y += _FALL + 22
        return y

    def bars(self, figure: Figure) -> Iterator[tuple[str, float, float, str]]:
        """(name, from, to, text) of A, of every change that counts, and of B."""
        effect = self.diff.effect
        at = effect.first[figure.name]
        yield "A", 0, at, figure.written(at)
        for i, stage in enumerate(effect.stages, 1):
            added = stage.added[figure.name]
            if added:
                yield str(i), at, at + added, signed(figure.written, added)
            at += added
        yield "B", 0, effect.last[figure.name], figure.written(effect.last[figure.name])
