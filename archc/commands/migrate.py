"""`archc migrate`: a checkpoint of one model made one of another, by the passes that their difference tells."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

How = Literal["drop", "merge"]
Tie = Literal["embedding", "lm_head", "mean"]


def migrate(
    to: Annotated[str, typer.Option("--to", metavar="MODEL", help="The model to end in.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="An archc checkpoint or a Hugging Face folder.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="The model to start from; else the checkpoint's.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="The new checkpoint's folder.")
    ] = None,
    importance: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Scores of `archc importance`, to choose units by.")
    ] = None,
    by: Annotated[str, typer.Option(help="How units are chosen: first, random, or an estimator's name.")] = "",
    layers: Annotated[str, typer.Option(metavar="POSITIONS", help="The layers that go: `3,17,20-25`.")] = "",
    kv_heads: Annotated[How | None, typer.Option(help="Whether fewer KV heads are some of them, or means.")] = None,
    groups: Annotated[How | None, typer.Option(help="Likewise the groups of Mamba-2.")] = None,
    experts: Annotated[How | None, typer.Option(help="Likewise experts.")] = None,
    tie: Annotated[Tie | None, typer.Option(help="What a matrix that becomes tied starts from.")] = None,
    tokens: Annotated[str, typer.Option(metavar="IDS", help="The tokens that stay: `0-99,200`.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the passes, and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Make a checkpoint one of another model: the passes follow from what differs between the two.

    What the difference does not tell, which of equal layers went for instance, is asked for, all of it at once. That
    the passes end in the other model is checked before anything is written. `archc verify OUT --parent CKPT` replays
    them.
    """
    from archc.compress.migrate import Choices, check_end, passes_between, same_spec
    from archc.compress.migrate import migrate as run
    from archc.hub.weights import weights_of
    from archc.importance.files import load_scores
    from archc.kernels.errors import PassError
    from archc.resolve import load

    if weights is None and (not dry_run or not start):
        raise typer.BadParameter("give --weights CKPT, or --from MODEL and --dry-run")
    if output is None and not dry_run:
        raise typer.BadParameter("give --output OUT, or --dry-run")
    stored = weights_of(weights).graph if weights is not None else load(start)
    a = load(start) if start else stored
    b = load(to)
    if not same_spec(stored, a):
        raise PassError(f"`{weights}` holds another model than `{start}`: `archc diff {start} {weights}` tells")
    scores = load_scores(importance, stored) if importance is not None else None
    choices = Choices(
        by=by,
        estimators=tuple(scores.units) if scores is not None else (),
        layers=tuple(i for low, high in _ranges("--layers", layers) for i in range(low, high + 1)) if layers else None,
        kv_heads=kv_heads,
        groups=groups,
        experts=experts,
        tie=tie,
        tokens=tuple(_ranges("--tokens", tokens)) or None,
    )
    pipeline = passes_between(a, b, choices)
    if dry_run:
        check_end(stored, pipeline, b, scores)
    if dry_run or weights is None or output is None:
        typer.echo(str(pipeline), nl=bool(pipeline.passes))
        return
    made = run(weights, pipeline, b, output, scores=importance, overwrite=overwrite)
    count = sum(map(math.prod, made.graph.weight_shapes().values()))
    if pipeline.passes:
        typer.echo(str(pipeline))
    typer.echo(f"{output}: `{made.graph.name}`, {count:,} parameters")


def _ranges(flag: str, text: str) -> list[tuple[int, int]]:
    """`3,17,20-25` as first and last. Raises BadParameter."""
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        read = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if read is None:
            raise typer.BadParameter(f"{flag}: expected numbers and ranges such as 3,17,20-25, got `{part}`")
        found.append((int(read[1]), int(read[2] or read[1])))
    return found
