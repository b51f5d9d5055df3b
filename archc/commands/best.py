"""`archc best`: a candidate of a search, as a spec or as the passes that make it of the base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def best(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a search.")],
    pick: Annotated[
        str, typer.Option(metavar="WHICH", help="knee, first (by the first objective), or a candidate's name.")
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
    by: Annotated[str, typer.Option(help="Of --recipe: what units are kept by.")] = "activation",
) -> None:
    """Take a candidate out of a search."""
    from archc.outfile import write_whole
    from archc.searching.pick import picked, recipe_text, spec_text

    chosen = picked(run, pick)
    if recipe is not None:
        write_whole(recipe, recipe_text(chosen, by))
    text = spec_text(chosen)
    if output is not None:
        write_whole(output, text)
        typer.echo(f"{output}: {chosen.described}")
    elif recipe is None:
        typer.echo(text, nl=False)
