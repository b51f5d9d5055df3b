"""`archc show`: a model at a glance."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the same figures.")] = False,
    as_text: Annotated[bool, typer.Option("--ir", help="Print the graph's text form instead.")] = False,
    as_graph: Annotated[bool, typer.Option("--ir-json", help="Print the graph's JSON form instead.")] = False,
) -> None:
    """Layer pattern, a table of the kinds of block, totals, and the state of a sequence."""
    from archc.resolve import load

    if as_json + as_text + as_graph > 1:
        raise typer.BadParameter("--json, --ir and --ir-json exclude one another")
    graph = load(model)
    if as_text:
        from archc.ir.text import print_graph

        typer.echo(print_graph(graph), nl=False)
        return
    if as_graph:
        from archc.ir.graph_json import graph_to_json

        typer.echo(json.dumps(graph_to_json(graph), indent=2))
        return
    from archc.viz.summary import summarise

    summary = summarise(graph)
    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=2))
        return
    from archc.viz.terminal import print_summary

    print_summary(summary)
