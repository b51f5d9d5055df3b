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
    from archc.searching.file import load_search
    from archc.searching.mip_file import is_mip
    from archc.searching.run import run_search
    from archc.viz.search_terminal import show_search

    if is_mip(file):
        _search_variants(file, output, as_json)
        return
    asked = load_search(file)
    folder = output or Path("runs") / "search" / asked.name
    run_search(asked, folder)
    show_search(folder, as_json=as_json)


def _search_variants(file: Path, output: Path | None, as_json: bool) -> None:
    """`sampler: mip`."""
    from archc.searching.folder import results_text
    from archc.searching.mip_file import load_mip
    from archc.searching.mip_run import run_mip
    from archc.searching.mip_table import print_mip

    asked = load_mip(file)
    folder = output or Path("runs") / "search" / asked.name
    found = run_mip(asked, folder)
    if as_json:
        typer.echo(results_text(found.to_json()), nl=False)
        return
    print_mip(found, folder)
