"""`archc show RUN --svg`: the front of a search among all that was measured, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from archc.viz.plane import Plane, Point
from archc.viz.search_scene import column_text, search_scene
from archc.viz.svg import Canvas

_STYLE = """
.cloud, .outside { stroke: #aab2bd; stroke-width: 2.5; stroke-linecap: round; } .outside { stroke: #e6b8b2; }
.trial { fill: #7d8896; } .front { fill: #1769c2; } .edge { fill: none; stroke: #1769c2; stroke-width: 1.2; }
.knee { fill: #f0a03c; stroke: #10141a; } .base { fill: none; stroke: #10141a; stroke-width: 2; }
.limit-line { fill: none; stroke: #c0392b; stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
  .cloud { stroke: #4a5663; } .outside { stroke: #6b3f3c; } .trial { fill: #9aa7b5; } .front { fill: #7ab8ff; }
  .edge { stroke: #7ab8ff; } .limit-line { stroke: #ef8477; } .knee, .base { stroke: #e8edf3; }
}"""
_WIDTH, _LEFT, _TOP, _RIGHT, _BOTTOM = 820, 74, 64, 804, 440


def search_picture(results: Mapping[str, Any], run: str) -> str:
    """The picture of the results in the folder `run`, as a file of its own."""
    scene = search_scene(results, run)
    return _drawn(scene).svg(_BOTTOM + 44, f"{scene['name']}: the front", _STYLE)


def inline_picture(scene: Mapping[str, Any]) -> str:
    """The same inside a page."""
    return _drawn(scene).inline(_BOTTOM + 44, f"{scene['name']}: the front")


def _drawn(scene: Mapping[str, Any]) -> Canvas:
    x, y = scene["axes"]
    return _Picture(scene, Plane.of(scene, x, y)).drawn()


class _Picture:
    """Draws a plane; later things lie on those before."""

    def __init__(self, scene: Mapping[str, Any], plane: Plane) -> None:
        self.scene, self.plane, self.canvas = scene, plane, Canvas(_WIDTH)
        self.rows = {c["name"]: c["row"] for c in scene["candidates"]}

    def drawn(self) -> Canvas:
        """The canvas with everything on it."""
        plane, canvas = self.plane, self.canvas
        canvas.text(16, 24, f"{self.scene['name']}, around {self.scene['base']}", size=15, style="strong", width=788)
        self._axes()
        for points, style in ((plane.outside, "outside"), (plane.cloud, "cloud")):
            if points:
                canvas.path(self._dots(points), style=style)
        if plane.line:
            canvas.path("M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in map(self._at, plane.line)), style="edge")
        for named, style, r in ((plane.trials, "trial", 2.0), (plane.front, "front", 3.5)):
            for name, point in named:
                canvas.circle(*self._at(point), r, style=style, title=self._told(name))
        self._knee()
        for name, point in plane.beside:
            x, y = self._at(point)
            canvas.path(f"M{x:.1f},{y - 6:.1f} l6,6 l-6,6 l-6,-6 z", style="base")
            left = x > (_RIGHT - 60 if name == "base" else (_LEFT + _RIGHT) / 2)
            canvas.text(x - 10 if left else x + 10, y + 4, name, anchor="end" if left else "")
        return canvas

    def _axes(self) -> None:
        x, y, canvas = self.plane.x, self.plane.y, self.canvas
        for value, text in y.marks():
            at = self._y(value)
            canvas.path(f"M{_LEFT},{at:.1f} H{_RIGHT}", style="rule")
            canvas.text(_LEFT - 8, at + 4, text, size=11, style="quiet", anchor="end")
        for value, text in x.marks():
            canvas.text(self._x(value), _BOTTOM + 18, text, size=11, style="quiet", anchor="middle")
        canvas.path(f"M{_LEFT},{_BOTTOM} H{_RIGHT}", style="rule")
        for at in x.limited_at:
            canvas.path(f"M{_LEFT + at * (_RIGHT - _LEFT):.1f},{_TOP} V{_BOTTOM}", style="limit-line")
        for at in y.limited_at:
            canvas.path(f"M{_LEFT},{_BOTTOM - at * (_BOTTOM - _TOP):.1f} H{_RIGHT}", style="limit-line")
        canvas.text(16, _TOP - 14, y.title, size=12, width=788)
        canvas.text(_RIGHT, _BOTTOM + 36, x.title, size=12, anchor="end", width=500)
        canvas.text(16, _BOTTOM + 36, self.plane.left_out, size=11, style="quiet", width=260)

    def _knee(self) -> None:
        for name, point in self.plane.front:
            if name == self.scene["knee"]:
                x, y = self._at(point)
                self.canvas.circle(x, y, 5.5, style="knee", title=self._told(name))
                if x < (_LEFT + _RIGHT) / 2:
                    self.canvas.text(x + 9, y - 8, f"{name} (knee)", width=300)
                else:
                    self.canvas.text(x - 9, y - 8, f"{name} (knee)", width=300, anchor="end")

    def _told(self, name: str) -> str:
        columns = zip(self.scene["columns"], self.rows[name], strict=True)
        return f"{name}: " + ", ".join(f"{c['label']} {column_text(c, value)}" for c, value in columns)

    def _dots(self, points: Iterable[Point]) -> str:
        """A path of dots: lines of no length, with round ends. Those on one pixel are one."""
        return "".join(f"M{x:.0f},{y:.0f}h0" for x, y in dict.fromkeys(map(self._rounded, points)))

    def _rounded(self, point: Point) -> Point:
        x, y = self._at(point)
        return round(x), round(y)

    def _at(self, point: Point) -> Point:
        return self._x(point[0]), self._y(point[1])

    def _x(self, value: float) -> float:
        return round(_LEFT + self.plane.x.at(value) * (_RIGHT - _LEFT), 1)

    def _y(self, value: float) -> float:
        return round(_BOTTOM - self.plane.y.at(value) * (_BOTTOM - _TOP), 1)
