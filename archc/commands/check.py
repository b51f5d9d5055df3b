"""`archc check`: can a runtime load this model?"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.hub.fit import Violation
    from archc.ir.graph import Graph
    from archc.targets import Fit


def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json.")],
    target: Annotated[
        str | None, typer.Option(help="transformers, vllm, vllm-puzzle, llama.cpp or package; else all of them.")
    ] = None,
    tp: Annotated[int, typer.Option(min=1, help="Processes among which each layer is cut.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Whether a runtime can load a model: everything against it, layer by layer; exit status 1 where it cannot."""
    from archc.resolve import load
    from archc.targets import TARGETS, fit

    graph = load(model)
    if target is None:
        _show_all(graph, [fit(graph, name, tp) for name in TARGETS], tp, as_json)
        return
    found = fit(graph, target, tp)
    if as_json:
        typer.echo(json.dumps(_as_json(graph, found, tp), indent=2))
    else:
        _show(graph, found, tp)
    if not found:
        raise typer.Exit(1)


def _show(graph: Graph, found: Fit, tp: int) -> None:
    from archc.targets import TARGETS

    on = found.target + (f" on {tp} processes" if tp > 1 else "")
    family = f" as `{found.family}`" if found.family else ""
    count = len(found.violations)
    against = f": {count} violation{'s' if count > 1 else ''}" if count else ""
    typer.echo(f"{graph.name} {'fits' if found else 'does not fit'} {on}{family}{against}")
    typer.echo(f"({TARGETS[found.target].says})")
    if found:
        return
    rules = list(dict.fromkeys(one.rule for one in found.violations))
    for rule, ones in groupby(sorted(found.violations, key=lambda v: rules.index(v.rule)), key=lambda v: v.rule):
        several = list(ones)
        typer.echo(f"\n{rule}: {several[0].says}")
        for one in several:
            typer.echo(f"  {_placed(one)}")
    if found.target != "package":
        typer.echo("\na package runs it as it is: archc compile MODEL -o OUT")


def _placed(one: Violation) -> str:
    """The violation, with the id of its node where that is not the place itself."""
    return f"{one} [{one.node}]" if one.node else str(one)


def _show_all(graph: Graph, fits: list[Fit], tp: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_as_json(graph, one, tp) for one in fits], indent=2))
        return
    from rich.markup import escape

    from archc.terminal import console, plain_table

    table = plain_table("target", "loads it", "as", "first reason against it", whole=("target", "loads it", "as"))
    for one in fits:
        more = f" (and {len(one.violations) - 1} more)" if len(one.violations) > 1 else ""
        reason = escape(f"{one.violations[0]}{more}") if one.violations else ""
        table.add_row(one.target, "[green]yes[/green]" if one else "[yellow]no[/yellow]", one.family, reason)
    console().print(table)


def _as_json(graph: Graph, found: Fit, tp: int) -> dict[str, Any]:
    return {
        "model": graph.name,
        "target": found.target,
        "tp": tp,
        "fits": bool(found),
        "family": found.family,
        "violations": [_violation_json(one) for one in found.violations],
    }


def _violation_json(one: Violation) -> dict[str, Any]:
    plain = {k: v if isinstance(v, str | int | float | None) else str(v) for k, v in one.at._asdict().items()}
    return {"rule": one.rule, "says": one.says, "layer": plain.pop("scope"), "node": one.node, **plain}
