"""`archc export`: an archc checkpoint for other people's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Target = Literal["hf"]


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="An archc checkpoint.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")],
    to: Annotated[Target, typer.Option(help="The layout: Hugging Face's, which serving engines read.")] = "hf",
    family: Annotated[str, typer.Option(help="model_type to write; else the one imported from, or that fits.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Export a checkpoint. What was imported and not changed comes back bit for bit, in its own layout."""
    from archc.hub.config import read_config
    from archc.hub.export import export_checkpoint

    made = export_checkpoint(checkpoint, out, to, family=family, overwrite=overwrite)
    files = len(list(made.glob("*.safetensors")))
    typer.echo(f"{made}: {read_config(made)['model_type']}, {files} weight file{'s' if files > 1 else ''}")
