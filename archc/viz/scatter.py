"""A plane of a search drawn with characters: dots of braille, plain ones where the terminal has no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.text import Text

from archc.viz.drawing import draws_blocks
from archc.viz.plane import Axis, Plane, Point

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, by row and column
_BRAILLE = 0x2800
FRONT, KNEE, BASE, OTHER = "front", "knee", "base", "other"
_MARKS = {
    FRONT: ("●", "o", "bold cyan"),
    KNEE: ("◆", "K", "bold yellow"),
    BASE: ("◇", "B", "bold"),
    OTHER: ("◈", "M", "bold"),
}
_CLOUD, _OUTSIDE = ".", ","  # without braille


def print_plane(out: Console, plane: Plane, knee: str, *, width: int, height: int) -> None:
    """Print a plane in so many columns and rows, with its axes and what the marks mean."""
    out.print(Text(plane.y.title, no_wrap=True, overflow="ellipsis"))
    marks = {_row(at, height): text for at, text in ((plane.y.at(v), text) for v, text in plane.y.marks())}
    left = max(map(len, marks.values()), default=0)
    cells = width - left - 2
    for row, line in enumerate(_drawn(out, plane, knee, cells, height)):
        out.print(Text.assemble((f"{marks.get(row, ''):>{left}} ", "dim"), ("│" if draws_blocks(out) else "|"), line))
    out.print(Text(f"{' ' * (left + 2)}{_below(plane.x, cells)}", "dim", no_wrap=True))
    out.print(Text(f"{plane.x.title:>{width}}", no_wrap=True, overflow="ellipsis"))
    out.print(Text.assemble(*_legend(out, plane, knee)))


def _drawn(out: Console, plane: Plane, knee: str, width: int, height: int) -> Iterator[Text]:
    """The rows of the picture; marks lie on dots, the knee and what stands beside on all."""
    within, outside = (_dots(plane, points, width, height) for points in (_all(plane), plane.outside))
    marks: dict[tuple[int, int], str] = {}
    for name, point in plane.front:
        cell = _cell(plane, point, width, height)
        if marks.get(cell) != KNEE:
            marks[cell] = KNEE if name == knee else FRONT
    for name, point in reversed(plane.beside):
        marks[_cell(plane, point, width, height)] = BASE if name == BASE else OTHER
    for row in range(height):
        line = Text()
        for column in range(width):
            at = (column, row)
            if at in marks:
                line.append(_mark(out, marks[at]), _MARKS[marks[at]][2])
            elif at in within:
                line.append(_character(out, within[at]), "bright_black")
            else:
                line.append(_outside(out) if at in outside else " ", "red")
        yield line


def _all(plane: Plane) -> Iterator[Point]:
    yield from plane.cloud
    yield from (point for _, point in plane.trials)


def _dots(plane: Plane, points: Iterable[Point], width: int, height: int) -> Mapping[tuple[int, int], int]:
    """Bits of the dots in each cell that has some."""
    found: dict[tuple[int, int], int] = {}
    for point in points:
        x, y = _cell(plane, point, 2 * width, 4 * height)
        cell = (x // 2, y // 4)
        found[cell] = found.get(cell, 0) | _DOTS[y % 4][x % 2]
    return found


def _cell(plane: Plane, point: Point, width: int, height: int) -> tuple[int, int]:
    return min(int(plane.x.at(point[0]) * width), width - 1), _row(plane.y.at(point[1]), height)


def _row(share: float, height: int) -> int:
    return height - 1 - min(int(share * height), height - 1)


def _character(out: Console, bits: int) -> str:
    return chr(_BRAILLE + bits) if draws_blocks(out) else _CLOUD


def _outside(out: Console) -> str:
    return "·" if draws_blocks(out) else _OUTSIDE


def _mark(out: Console, kind: str) -> str:
    return _MARKS[kind][0 if draws_blocks(out) else 1]


def _below(axis: Axis, width: int) -> str:
    """Round values at their places, those that would touch the one before left out."""
    line = ""
    for value, text in axis.marks():
        at = max(0, min(int(axis.at(value) * width) - len(text) // 2, width - len(text)))
        if at > len(line) or not line:
            line = f"{line:<{at}}{text}"
    return line


def _legend(out: Console, plane: Plane, knee: str) -> Iterator[str | tuple[str, str]]:
    beside = [(BASE if name == BASE else OTHER, name) for name, _ in plane.beside]
    for kind, words in ((FRONT, "on the front"), (KNEE, f"knee {knee}"), *beside):
        yield from ((_mark(out, kind), _MARKS[kind][2]), f" {words}   ")
    yield from ((_character(out, 0x36), "bright_black"), " measured")
    if plane.outside:
        yield from ("   ", (_outside(out), "red"), " outside the budgets")
    if plane.left_out:
        yield f"   {plane.left_out}"
