"""`archc search`: which model fits, and loses least, in one file and one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A search (YAML): base, space, budgets, objectives.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="The run's folder; else runs/search/NAME.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Search models under budgets: propose candidates, keep those that fit, record the best as trials.

    A run that is there goes on. `archc best RUN` takes candidates out of it, `archc show RUN` draws it.
    """
    from archc.searching.folder import results_text
    from archc.searching.run import Found
    from archc.searching.start import place_of, run_search
    from archc.viz.search_terminal import show_search

    found = run_search(file, output)
    if as_json:
        typer.echo(results_text(found.to_json()), nl=False)
    elif isinstance(found, Found):
        show_search(place_of(output, found.search.name))
    else:
        from archc.searching.mip_table import print_mip

        print_mip(found, place_of(output, found.search.name))
