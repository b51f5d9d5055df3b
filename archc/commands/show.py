"""`archc show`: a model at a glance, one block of it in full, or a picture of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.ir.graph import Graph
    from archc.viz.overlay import Overlay

# Option -> the function of (graph, overlays) that makes the file's text.
PICTURES = {
    "html": "archc.viz.page:page",
    "svg": "archc.viz.picture:picture",
    "dot": "archc.viz.dot:dot",
    "mermaid": "archc.viz.mermaid:mermaid",
    "model_explorer": "archc.viz.model_explorer:model_explorer",
    "netron": "archc.viz.netron:netron",
}
# The same of (results, folder) of a search.
PICTURES_OF_SEARCH = {"html": "archc.viz.search_page:search_page", "svg": "archc.viz.search_picture:search_picture"}
FILE = "FILE"
Out = Path | None


def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json, or a search's folder."
        ),
    ],
    layer: Annotated[int | None, typer.Option(help="One layer in full: every op, parameter, axis and shape.")] = None,
    op: Annotated[str | None, typer.Option(help="One op in full, by scope or id: layers.17.mixer.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Statistics of every tensor of a checkpoint.")] = False,
    history: Annotated[bool, typer.Option("--history", help="What was done to a checkpoint, oldest first.")] = False,
    overlay: Annotated[list[Path] | None, typer.Option(metavar=FILE, help="Values to draw: docs/overlay.md.")] = None,
    html: Annotated[Out, typer.Option(metavar=FILE, help="Write an interactive page, whole in one file.")] = None,
    svg: Annotated[Out, typer.Option(metavar=FILE, help="Write a picture.")] = None,
    dot: Annotated[Out, typer.Option(metavar=FILE, help="Write the graph for Graphviz.")] = None,
    mermaid: Annotated[Out, typer.Option(metavar=FILE, help="Write a Mermaid flowchart.")] = None,
    model_explorer: Annotated[Out, typer.Option(metavar=FILE, help="Write JSON for Google Model Explorer.")] = None,
    netron: Annotated[Out, typer.Option(metavar=FILE, help="Write a .netron file for Netron.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the same figures.")] = False,
    as_spec: Annotated[bool, typer.Option("--spec", help="Print the model as a spec instead.")] = False,
    as_text: Annotated[bool, typer.Option("--ir", help="Print the graph's text form instead.")] = False,
    as_graph: Annotated[bool, typer.Option("--ir-json", help="Print the graph's JSON form instead.")] = False,
) -> None:
    """Layer pattern, a table of the kinds of block, totals, and the state of a sequence; or a picture.

    Of a search: the front, a table of it, what decides and what binds; it has --html, --svg and --json.
    A FILE of `-` is standard output. Several pictures can be written at once.
    """
    from archc.outfile import refuse_beside
    from archc.resolve import is_search_named, load

    files = {
        "html": html,
        "svg": svg,
        "dot": dot,
        "mermaid": mermaid,
        "model_explorer": model_explorer,
        "netron": netron,
    }
    drawn = {name: out for name, out in files.items() if out is not None}
    forms = {"--json": as_json, "--spec": as_spec, "--ir": as_text, "--ir-json": as_graph}
    one = {"--layer": layer is not None, "--op": op is not None}
    _exclude(forms)
    _exclude(one)
    if drawn:
        refuse_beside(drawn, {**forms, **one, "--stats": stats, "--history": history})
    if is_search_named(model):
        _exclude_of_search({**forms, **one, "--stats": stats, "--history": history, "--overlay": bool(overlay)}, drawn)
        _show_search(Path(model), drawn, as_json=as_json)
        return
    if history:
        from archc.viz.history import print_history

        print_history(Path(model), as_json=as_json)
        return
    graph = load(model)
    if as_spec or as_text or as_graph:
        typer.echo(_other_form(graph, as_spec=as_spec, as_text=as_text), nl=False)
        return
    overlays = _overlays(graph, overlay or [])
    if drawn:
        _draw(graph, overlays, drawn)
        return
    if stats:
        from archc.viz.statistics import show_statistics

        show_statistics(model, layer=layer, op=op, as_json=as_json)
        return
    _print(graph, overlays, layer=layer, op=op, as_json=as_json)


def _exclude(given: Mapping[str, bool]) -> None:
    if sum(given.values()) > 1:
        *most, last = given
        raise typer.BadParameter(f"{', '.join(most)} and {last} exclude one another")


def _exclude_of_search(given: Mapping[str, bool], drawn: Mapping[str, Path]) -> None:
    files = {f"--{name.replace('_', '-')}": True for name in drawn if name not in PICTURES_OF_SEARCH}
    wrong = [name for name, is_given in {**given, **files}.items() if is_given and name != "--json"]
    if wrong:
        raise typer.BadParameter(f"{' and '.join(wrong)}: of a search there are --html, --svg and --json")


def _show_search(run: Path, drawn: Mapping[str, Path], *, as_json: bool) -> None:
    from archc.searching.folder import read_results

    if not drawn:
        from archc.viz.search_terminal import show_search

        show_search(run, as_json=as_json)
        return
    results = read_results(run)
    _write({out: _function(PICTURES_OF_SEARCH[name])(results, str(run)) for name, out in drawn.items()})


def _other_form(graph: Graph, *, as_spec: bool, as_text: bool) -> str:
    if as_spec:
        from archc.spec.model import spec_from_graph

        return spec_from_graph(graph).to_yaml()
    if as_text:
        from archc.ir.text import print_graph

        return print_graph(graph)
    from archc.ir.graph_json import graph_to_json

    return json.dumps(graph_to_json(graph), indent=2) + "\n"


def _overlays(graph: Graph, files: list[Path]) -> tuple[Overlay, ...]:
    if not files:
        return ()
    from archc.viz.overlay import load_overlays

    return load_overlays(files, graph)


def _draw(graph: Graph, overlays: tuple[Overlay, ...], files: Mapping[str, Path]) -> None:
    _write({out: _function(PICTURES[name])(graph, overlays) for name, out in files.items()})


def _write(made: Mapping[Path, str]) -> None:
    """Write pictures, all of which are made before any is written."""
    from archc.outfile import write_whole

    for out, text in made.items():
        write_whole(out, text)
        if str(out) != "-":
            typer.echo(f"wrote {out}", err=True)


def _function(place: str) -> Any:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def _print(graph: Graph, overlays: tuple[Overlay, ...], *, layer: int | None, op: str | None, as_json: bool) -> None:
    if layer is not None or op is not None:
        from archc.viz.block import view
        from archc.viz.terminal_block import print_view

        shown = view(graph, layer=layer, op=op, overlays=overlays)
        typer.echo(json.dumps(shown.to_json(), indent=2)) if as_json else print_view(shown)
        return
    from archc.viz.summary import summarise
    from archc.viz.terminal import print_summary

    summary = summarise(graph, overlays)
    typer.echo(json.dumps(summary.to_json(), indent=2)) if as_json else print_summary(summary)
