"""`archc zoo`: known architectures, published against computed figures; with --claims, published throughput ratios."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.claims import Outcome, Side
    from archc.zoo.figures import Row


def zoo(
    claims: Annotated[bool, typer.Option("--claims", help="Published throughput ratios instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the known models with their published figures and what archc computes for them."""
    if claims:
        _claims(as_json)
    else:
        _models(as_json)


# -- models ------------------------------------------------------------------------------------------------------------


def _models(as_json: bool) -> None:
    from archc.spec import load_spec
    from archc.zoo import names, path
    from archc.zoo.figures import count, rows

    models: list[tuple[str, int, list[Row]]] = []
    for name in names():
        spec = load_spec(path(name))
        graph = spec.graph()
        models.append((name, count(graph, "total", ["mtp"]), list(rows(spec))))
    if as_json:
        typer.echo(json.dumps([_model_json(*row) for row in models], indent=2))
        return
    _print_models(models)


def _model_json(name: str, total: int, compared: list[Row]) -> dict[str, Any]:
    figures = [
        {
            "metric": c.figure.metric,
            "published": c.figure.text,
            "without": list(c.figure.without),
            "computed": c.counted,
            "holds": c.agrees,
            "gap": c.gap,
            "why": c.figure.gap,
        }
        for c in compared
    ]
    return {"name": name, "total": total, "published": figures}


def _print_models(models: list[tuple[str, int, list[Row]]]) -> None:
    from archc.terminal import console, plain_table

    table = plain_table(
        "model", "figure", "published", "computed", "", numbers=("published", "computed"), whole=("model",)
    )
    for name, total, compared in models:
        for line in _model_rows(name, total, compared):
            table.add_row(*line)
    console().print(table)
    found = [c for _, _, compared in models for c in compared]
    open_gaps = sum(not c.agrees for c in found)
    typer.echo(f"{len(models)} models; {len(found) - open_gaps} of {len(found)} published figures reached")


def _model_rows(name: str, total: int, compared: list[Row]) -> Iterator[tuple[str, str, str, str, str]]:
    if not compared:
        yield name, "total", "-", f"{total / 1e6:.2f}M", ""
    for i, c in enumerate(compared):
        figure = c.figure
        convention = f" without {', '.join(figure.without)}" if figure.without else ""
        computed = f"{c.counted / 1e9:.3f}B"
        verdict = "[green]ok[/green]" if c.agrees else f"[yellow]gap {c.gap / 1e9:+.3f}B[/yellow]"
        why = f" ({figure.gap})" if figure.gap else ""
        yield "" if i else name, figure.metric, figure.text, computed, verdict + convention + why


# -- claims ------------------------------------------------------------------------------------------------------------


def _claims(as_json: bool) -> None:
    from archc.claims import compute, load_claims

    outcomes = {name: compute(claim) for name, claim in load_claims().items()}
    if as_json:
        typer.echo(json.dumps([_claim_json(name, o) for name, o in outcomes.items()], indent=2))
        return
    _print_claims(list(outcomes.values()))


def _claim_json(name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": name,
        **outcome.claim.model_dump(),
        "computed_ratio": outcome.ratio,
        "factor": outcome.factor,
        "holds": outcome.holds,
        "sides": [None if s is None else vars(s) for s in (outcome.model, outcome.baseline)],
    }


def _print_claims(outcomes: list[Outcome]) -> None:
    from archc.claims import TOLERANCE
    from archc.terminal import console, plain_table
    from archc.units import format_count

    numbers = ("tokens/s (batch)", "published", "computed")
    table = plain_table("model over baseline", *numbers, "", numbers=numbers, whole=("model over baseline", ""))
    for o in outcomes:
        claim = o.claim
        setting = f"{claim.hardware}, {format_count(claim.input)} in, {format_count(claim.output)} out"
        rates = f"{_rate(o.model)}\n{_rate(o.baseline)}"
        ratio = "-" if o.ratio is None else f"{o.ratio:.2f}"
        pair = f"{claim.model}\n  {claim.baseline}\n  [dim]{setting}[/dim]"
        table.add_row(pair, rates, f"{claim.published_ratio:g}", ratio, _verdict(o))
    console().print(table)
    reachable = [o for o in outcomes if o.claim.reachable]
    held = sum(o.holds for o in reachable)
    typer.echo(f"{held} of {len(reachable)} reachable claims within {TOLERANCE}x; the others are shown, not fitted")
    typer.echo("* hangs on how the engines of its day treat each model")


def _rate(side: Side | None) -> str:
    return "does not fit" if side is None else f"{side.output_tokens_per_s:,.0f} ({side.batch})"


def _verdict(outcome: Outcome) -> str:
    if outcome.factor is None:
        return "[yellow]does not fit[/yellow]"
    mark = "[green]ok[/green]" if outcome.holds else "[yellow]off[/yellow]"
    return f"{mark} {outcome.factor:.2f}x" + ("" if outcome.claim.reachable else " *")
