"""`archc compress`: passes applied to a checkpoint, its weights carried along."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def compress(
    model: Annotated[Path, typer.Argument(metavar="CKPT", help="An archc checkpoint or a Hugging Face folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The new checkpoint's folder.")],
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="A recipe (YAML): passes in order.")] = None,
    passes: Annotated[str, typer.Option(metavar="TEXT", help="Passes as text: `prune{dim=d_ff, to=512}`.")] = "",
    importance: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Scores of `archc importance`; else what the recipe says.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the new model; else the recipe's, or the old one's.")] = "",
    requantise: Annotated[
        bool, typer.Option("--requantise", help="Quantise packed weights anew where other than whole blocks are kept.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Make a smaller checkpoint of one: the units, layers and experts that passes keep, from disk to disk.

    `archc verify OUT --parent CKPT` replays it. Without an output the weights are not needed: `archc show` and
    `archc diff` read what comes out.
    """
    from archc.compress.recipe import load_recipe
    from archc.compress.run import compress as run
    from archc.passes import Pipeline
    from archc.units import format_params

    if (recipe is None) == (not passes):
        raise typer.BadParameter("give one of --recipe FILE and --passes TEXT")
    chosen = load_recipe(recipe) if recipe is not None else None
    pipeline = chosen.passes if chosen else Pipeline.parse(passes, file="--passes")
    places = {key: at for key, at in (chosen.at if chosen else {}).items() if key != "importance" or not importance}
    made = run(
        model,
        pipeline,
        output,
        scores=importance or (chosen.importance if chosen else None),
        calibration=chosen.calibration if chosen else None,
        name=name or (chosen.name if chosen else "") or "",
        at=places,
        requantise=requantise or (chosen is not None and chosen.requantise),
        overwrite=overwrite,
    )
    count = sum(map(math.prod, made.graph.weight_shapes().values()))
    typer.echo(f"{output}: `{made.graph.name}`, {format_params(count)} parameters")
