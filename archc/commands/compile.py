"""`archc compile`: a model as a Python package that runs without archc."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def compile(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The package's folder: a name to import.")],
    weights: Annotated[Path | None, typer.Option(metavar="CKPT", help="An archc checkpoint of this model.")] = None,
    init: Annotated[int | None, typer.Option(metavar="SEED", help="Fresh weights, in fp32, from a seed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the package if it is there.")] = False,
) -> None:
    """Compile a model to a package of plain torch: `from DIR import load`.

    Weights are those of MODEL where it is a checkpoint, unless --weights or --init says otherwise.
    """
    from archc.compilation import compile_model

    given = ["archc", "compile", model, "-o", str(out)]
    given += ["--weights", str(weights)] if weights is not None else []
    given += ["--init", str(init)] if init is not None else []
    folder = compile_model(model, out, weights=weights, seed=init, overwrite=overwrite, command=shlex.join(given))
    for file in sorted(folder.glob("*.py")):
        lines = file.read_text(encoding="utf-8").count("\n")
        typer.echo(f"{file}  {lines} lines")
    if not any(folder.glob("model*.safetensors")):
        typer.echo(f"{folder} has no weights: compile with --weights CKPT or --init SEED, or train it")
