"""`archc best`: a candidate of a search, as a spec or as the passes that make it of the base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def best(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a search.")],
    pick: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="knee, first (by the first objective), best (of the highest rung; without rungs the knee), or a "
            "candidate's name.",
        ),
    ] = "knee",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write its spec (YAML); else print it.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the recipe that `archc compress` makes it of the base's weights with."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="ESTIMATOR",
            help="Of --recipe: what units are kept by: first, random, or an estimator of the search's scores. Else as "
            "in the search; first where it has no scores.",
        ),
    ] = None,
) -> None:
    """Take a candidate out of a search."""
    from archc.outfile import write_whole
    from archc.searching.mip_pick import PickedMip
    from archc.searching.pick import picked, recipe_text, spec_text

    if by is not None and recipe is None:
        raise typer.BadParameter("--by goes with --recipe")
    chosen = picked(run, pick)
    if by is not None and isinstance(chosen, PickedMip):
        raise typer.BadParameter("--by: the variants of a library say themselves what units are kept by")
    if recipe is not None:
        write_whole(recipe, recipe_text(chosen, by))
    text = spec_text(chosen)
    if output is not None:
        write_whole(output, text)
        typer.echo(f"{output}: {chosen.described}")
    elif recipe is None:
        typer.echo(text, nl=False)
