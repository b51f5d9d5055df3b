"""`archc verify`: does a compressed checkpoint hold what its history says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    checkpoint: Annotated[Path, typer.Argument(metavar="OUT", help="A checkpoint that `archc compress` has made.")],
    parent: Annotated[Path, typer.Option(metavar="CKPT", help="The model it was made of.")],
) -> None:
    """Replay the pipeline in a checkpoint's history on its parent, and compare every weight bit by bit.

    Exit status: 0 all as it says, 1 something is not, 2 trouble.
    """
    from archc.compress.verify import verify as replayed

    found = replayed(checkpoint, parent)
    for problem in found.problems:
        typer.echo(problem)
    typer.echo(f"{found.equal} weights are what the pipeline makes of {parent}")
    if found.problems:
        raise typer.Exit(1)
