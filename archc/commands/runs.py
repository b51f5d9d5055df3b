"""`archc runs`: what training runs were and how they ended, as a table or as curves in one picture."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.train.runs import Run


class Action(StrEnum):
    """What to do with runs."""

    list = "list"
    plot = "plot"


def runs(
    action: Annotated[Action, typer.Argument(help="list: a table; plot: curves.")],
    places: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or folders that hold some.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The picture: plot.svg or plot.html.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Which metric to plot, such as loss or held_out/bits_per_byte.")
    ] = "held_out/loss",
    across: Annotated[str, typer.Option(help="What it is plotted over: step, tokens or elapsed_s.")] = "step",
    log: Annotated[bool, typer.Option("--log", help="A logarithmic axis of the metric.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
) -> None:
    """Compare training runs: a table of how they ended and what their recipes differ in, or their curves."""
    from archc.train.runs import find_runs

    found = find_runs(places)
    if action is Action.list:
        _list(found, as_json=as_json)
    elif output is None:
        raise typer.BadParameter("`archc runs plot` needs -o plot.svg or -o plot.html")
    else:
        _plot(found, output, metric=metric, across=across, log=log)


def _rows(found: list[Run]) -> list[dict[str, Any]]:
    from archc.train.runs import changed, names

    differing = changed(found) if len(found) > 1 else {}
    shown = ("loss", "held_out/loss", "held_out/bits_per_byte", "tokens", "elapsed_s")
    return [
        {
            "run": name,
            "steps": run.steps,
            **{metric: run.last(metric) for metric in shown},
            "recipe": {path: values[i] for path, values in differing.items()},
        }
        for i, (name, run) in enumerate(zip(names(found), found, strict=True))
    ]


def _list(found: list[Run], *, as_json: bool) -> None:
    from archc.terminal import console, plain_table

    rows = _rows(found)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("run", "steps", "tokens", "seconds", "loss", "held out", "bits a byte")
    recipe = list(rows[0]["recipe"])
    table = plain_table(*columns, *recipe, numbers=columns[1:], whole=("run",))
    for row in rows:
        figures = [_number(row[m], 4) for m in ("loss", "held_out/loss", "held_out/bits_per_byte")]
        head = [row["run"], f"{row['steps']:,}", _number(row["tokens"], 0), _number(row["elapsed_s"], 0)]
        table.add_row(*head, *figures, *(row["recipe"][path] for path in recipe))
    console().print(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _plot(found: list[Run], output: Path, *, metric: str, across: str, log: bool) -> None:
    from archc.kernels.errors import ArchcError
    from archc.outfile import write_whole
    from archc.train.runs import check_metric, names
    from archc.viz.curves import Plot

    if output.suffix not in (".svg", ".html"):
        raise ArchcError(f"{output}: a plot ends in .svg or .html")
    for name in (metric, across) if across != "step" else (metric,):
        check_metric(found, name)
    curves = [(name, _curve(run, metric, across)) for name, run in zip(names(found), found, strict=True)]
    if log and any(y <= 0 for _, curve in curves for _, y in curve):
        raise ArchcError(f"`{metric}` has values that are not above 0, which --log cannot show")
    plot = Plot(metric, across, curves, log)
    write_whole(output, plot.svg() if output.suffix == ".svg" else plot.page())
    typer.echo(f"{output}: {metric} of {len(found)} runs")


def _curve(run: Run, metric: str, across: str) -> list[tuple[float, float]]:
    if across == "step":
        return [(float(x), y) for x, y in run.curve(metric)]
    where = dict(run.curve(across))
    return [(where[step], y) for step, y in run.curve(metric) if step in where]
