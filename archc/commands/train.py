"""`archc train`: a compiled package learns from text, simply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A folder that `archc compile` wrote.")],
) -> None:
    """Train a compiled model on text, with a byte tokenizer, and save a checkpoint."""
    from archc.emitted import load_emitted

    load_emitted(package)
