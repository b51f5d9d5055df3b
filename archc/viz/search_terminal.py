"""`archc show RUN`: a search on a terminal of 80 columns: what was found, the front drawn, and a table of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from archc.terminal import console, plain_table
from archc.viz.drawing import wrapped
from archc.viz.plane import Plane, beside
from archc.viz.scatter import print_plane
from archc.viz.search_scene import CHOICE, OBJECTIVE, column_text, search_scene, written
from archc.viz.structure import printable

Row = tuple[str, Sequence[float | None]]  # a name, and a value for each column
Rows = Sequence[Row]
SHOWN = 12  # candidates of the front
MOST_TABLES, MOST_TOLD = 4, 12
_WIDEST, _HEIGHT = 100, 16
_DECISIVE, _ENOUGH = 4, 30  # choices that are told for a figure; points without which nothing is told of them


def show_search(run: Path, *, as_json: bool = False) -> None:
    """Print a search, or what its folder has as JSON. Raises ArchcError for a folder without results."""
    from archc.searching.folder import read_results

    results = read_results(run)
    if as_json:
        typer.echo(json.dumps(results, indent=1))
        return
    print_search(results, str(run))


def print_search(results: Mapping[str, Any], run: str) -> None:
    """Print the results of a search in the folder `run`."""
    from archc.searching.folder import PAGE

    out, scene = console(), _printable(search_scene(results, run))
    out.print(Text.assemble((scene["name"], "bold"), f"  around {scene['base']}"))
    for line in scene["told"]:
        out.print(wrapped(line, out.width), markup=False)
    out.print()
    plane = Plane.of(scene, *scene["axes"])
    print_plane(out, plane, scene["knee"], width=min(out.width, _WIDEST), height=_HEIGHT)
    out.print()
    _print_front(out, scene)
    out.print()
    for line in _decisive(scene):
        out.print(wrapped(line, out.width), markup=False)
    for line in _binding(scene):
        out.print(wrapped(line, out.width), markup=False)
    out.print()
    which = "best" if results.get("rungs") or results.get("sampler") == "mip" else "knee"
    for line in (f"archc best {run} --pick {which} -o best.yaml", f"{Path(run) / PAGE} has all of it, to look at"):
        out.print(Text(line, "dim", overflow="fold"))


def _printable(value: Any) -> Any:
    """A scene whose texts have nothing that a terminal obeys."""
    if isinstance(value, Mapping):
        return {key: _printable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in value]
    return printable(value) if isinstance(value, str) else value


# -- the front ---------------------------------------------------------------------------------------------------------


def _print_front(out: Console, scene: Mapping[str, Any]) -> None:
    """The base and candidates of the front in one table, or in several where one is too wide; what is the same in all
    of them is told once then."""
    shown, columns = list(_shown(scene)), scene["columns"]
    figures = [i for i, c in enumerate(columns) if c["role"] != CHOICE]
    choices = [i for i, c in enumerate(columns) if c["role"] == CHOICE]
    if _fits(out, scene, shown, figures + choices):
        out.print(_table(scene, shown, figures + choices))
        return
    same = [i for i in choices if len({row[i] for _, row in shown[1:]}) == 1]
    some = _split(out, scene, shown, figures)
    some += _split(out, scene, shown, [i for i in choices if i not in same])
    for n, part in enumerate(some[:MOST_TABLES]):
        out.print(*([""] if n else []), _table(scene, shown, part), sep="\n")
    told = [f"{columns[i]['label']} {shown[-1][1][i]} (base {shown[0][1][i]})" for i in same]
    if told:
        out.print(wrapped(f"the same in all of them: {', '.join(told[:MOST_TOLD])}", out.width), markup=False)
    if left := sum(map(len, some[MOST_TABLES:])) + len(told[MOST_TOLD:]):
        out.print(f"and {left} columns more; --json and --html have them")


def _split(out: Console, scene: Mapping[str, Any], shown: Rows, columns: Sequence[int]) -> list[list[int]]:
    """Columns in order, in as few tables as fit."""
    parts: list[list[int]] = []
    for i in columns:
        if parts and _fits(out, scene, shown, [*parts[-1], i]):
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


def _fits(out: Console, scene: Mapping[str, Any], shown: Rows, columns: Sequence[int]) -> bool:
    wide = out.options.update(max_width=10_000)
    return Measurement.get(out, wide, _table(scene, shown, columns)).maximum <= out.width


def _shown(scene: Mapping[str, Any]) -> Iterator[Row]:
    """The base and models beside it, then candidates of the front evenly apart, the knee and the best among them, and
    the next best where the front has few."""
    yield from ((one["name"], one["row"]) for one in beside(scene))
    marked = {scene["knee"]: "knee", scene["best"]: "best"} | {scene["knee"]: "knee"}
    front = [c for c in scene["candidates"] if c["front"] or c["name"] in marked]
    front += [c for c in scene["candidates"] if c not in front][: max(SHOWN - len(front), 0)]
    steps = max(-(-len(front) // SHOWN), 1)
    for i, one in enumerate(front):
        if i % steps == 0 or i == len(front) - 1 or one["name"] in marked:
            mark = f" ({marked[one['name']]})" if one["name"] in marked else ""
            yield f"{one['name']}{mark}", one["row"]


def _table(scene: Mapping[str, Any], shown: Rows, columns: Sequence[int]) -> Table:
    heads = [_head(scene["columns"][i]["label"]) for i in columns]
    table = plain_table(" ", *heads, numbers=tuple(heads), whole=(" ",))
    for name, row in shown:
        if all(row[i] is None for i in columns):  # a model beside the search, in a table of choices
            continue
        table.add_row(Text(name), *(Text(column_text(scene["columns"][i], row[i])) for i in columns))
    return table


def _head(label: str) -> str:
    """A label on the lines that it breaks into."""
    return label.replace(".", ".\n").replace(" ", "\n").replace("[", r"\[")


# -- what decides, what binds ------------------------------------------------------------------------------------------


def _decisive(scene: Mapping[str, Any]) -> Iterator[str]:
    """For each objective the choices that explain most of it, and clearly more than chance: of few points none does."""
    points = _distinct(scene)
    if points < _ENOUGH:
        return
    clear = [_clear(chance, points) for chance in scene["by_chance"]]
    names = [c["label"] for c in scene["columns"] if c["role"] == CHOICE]
    aims = [c["label"] for c in scene["columns"] if c["role"] == OBJECTIVE]
    for label, shares in zip(aims, scene["importance"], strict=False):
        kept = [(share, name) for share, name, least in zip(shares, names, clear, strict=True) if share > least]
        ranked = sorted(kept, key=lambda pair: -pair[0])[:_DECISIVE]
        told = ", ".join(f"{name} {share:.0%}" for share, name in ranked if share >= 0.005)
        if told:
            yield f"what decides {label}: {told}"


def _distinct(scene: Mapping[str, Any]) -> int:
    """How many points the shares are of: those of the sample that differ, or all where it is a part of them."""
    cloud = scene["cloud"]
    choices = [column for column, c in zip(cloud["columns"], scene["columns"], strict=True) if c["role"] == CHOICE]
    seen = len({*zip(*choices, strict=True)})
    return int(cloud["of"]) if len(cloud["order"]) < cloud["of"] else seen


def _clear(chance: float, points: int) -> float:
    """The share that chance gives a choice in one of some hundred cases: its mean and three standard deviations, the
    share of a normal figure being beta-distributed."""
    return float(chance + 3 * math.sqrt(2 * chance * (1 - chance) / (points + 1)))


def _binding(scene: Mapping[str, Any]) -> Iterator[str]:
    """How many proposals each budget rejects, and what the front leaves of it."""
    for budget in scene["budgets"]:
        broken, alone = (budget[key] / max(scene["proposed"], 1) for key in ("broken", "alone"))
        line = f"{budget['text']}: rejects {broken:.0%} of proposals, {alone:.0%} alone"
        if budget["slack"]:
            least, most = (written(budget["unit"], budget["slack"][i]) for i in (0, -1))
            line += f"; the front leaves {least}" + ("" if least == most else f" to {most}")
        yield line
