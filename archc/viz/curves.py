"""Curves of several runs in one picture: an SVG of its own, and a page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from archc.viz.svg import Canvas

Curve = Sequence[tuple[float, float]]

COLOURS = ("#3477c4", "#e07b39", "#2f8f5b", "#b0489f", "#8a6d1d", "#00838f", "#c0392b", "#5d6875")
_WIDTH, _HEIGHT, _LEFT, _TOP = 820, 420, 64, 44
_INK = 600  # points drawn of a curve: more would be beside each other on one pixel


@dataclass(frozen=True)
class Plot:
    """Curves by name on common axes; `title` names what they show, `across` what lies along the other axis."""

    title: str
    across: str
    curves: Sequence[tuple[str, Curve]]
    log: bool = False

    def svg(self) -> str:
        """The picture."""
        canvas = Canvas(_WIDTH)
        self._axes(canvas)
        for number, (name, curve) in enumerate(self.curves):
            colour = COLOURS[number % len(COLOURS)]
            path = " L".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in thinned(curve, _INK))
            dashes = "" if number < len(COLOURS) else ' stroke-dasharray="5 3"'
            if path:
                line = f'fill="none" stroke="{colour}" stroke-width="1.6"{dashes}'
                told = f"{escape(name)}: {curve[-1][1]:.4g} at {curve[-1][0]:g}"
                canvas.parts.append(f'<path d="M{path}" {line}><title>{told}</title></path>')
            y = _HEIGHT + 44 + 18 * number
            canvas.parts.append(
                f'<path d="M{_LEFT},{y - 4} h22" fill="none" stroke="{colour}" stroke-width="3"{dashes}/>'
            )
            last = f"   {curve[-1][1]:.4g}" if curve else "   -"
            canvas.text(_LEFT + 30, y, name + last, width=_WIDTH - _LEFT - 40)
        return canvas.svg(_HEIGHT + 56 + 18 * len(self.curves), self.title)

    def page(self) -> str:
        """The picture in a page that is whole in itself."""
        head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
        look = "<style>body{margin:2rem;font-family:system-ui,sans-serif;color-scheme:light dark}</style>"
        return f"{head}{look}</head><body>\n{self.svg()}</body></html>\n"

    # -- axes ----------------------------------------------------------------------------------------------------------

    def _axes(self, canvas: Canvas) -> None:
        canvas.text(_LEFT, 24, self.title, size=15, style="strong")
        for value in marks(*self._range(1), log=self.log):
            y = self._y(value)
            canvas.path(f"M{_LEFT},{y:.1f} H{_WIDTH - 16}", style="rule")
            canvas.text(_LEFT - 8, y + 4, f"{value:g}", size=11, style="quiet", anchor="end")
        for value in marks(*self._range(0), log=False):
            canvas.text(self._x(value), _HEIGHT + 18, f"{value:g}", size=11, style="quiet", anchor="middle")
        canvas.text(_WIDTH - 16, _HEIGHT + 18, self.across, size=11, style="quiet", anchor="end")

    def _range(self, axis: int) -> tuple[float, float]:
        values = [point[axis] for _, curve in self.curves for point in curve]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return (low, high) if high > low else (low, low + (abs(low) or 1.0))

    def _x(self, value: float) -> float:
        low, high = self._range_x
        return _LEFT + (value - low) / (high - low) * (_WIDTH - 16 - _LEFT)

    def _y(self, value: float) -> float:
        low, high = self._range_y
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return _HEIGHT - (value - low) / (high - low) * (_HEIGHT - _TOP)

    @property
    def _range_x(self) -> tuple[float, float]:
        return self._range(0)

    @property
    def _range_y(self) -> tuple[float, float]:
        return self._range(1)


def marks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Round values between two, about six.

    >>> marks(0.0, 10.5), marks(0.3, 30.0, log=True)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.5, 1.0, 2.0, 5.0, 10.0, 20.0])
    """
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [v for p in powers for m in (1, 2, 5) if low <= (v := m * 10.0**p) <= high]
    raw = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]


def thinned(curve: Curve, points: int) -> list[tuple[float, float]]:
    """At most about `points` of a curve: of every stretch its mean, the last point as it is.

    >>> thinned([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], 2)
    [(0.5, 2.0), (2.5, 6.0), (3, 7.0)]
    """
    if len(curve) <= points:
        return list(curve)
    size = -(-len(curve) // points)
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
    return [*means, curve[-1]]
