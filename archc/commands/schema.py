"""`archc schema`: the JSON schema of specs and recipes, with which editors complete and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def schema(
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="That of a recipe of `archc train`.")] = False,
) -> None:
    """Print the JSON schema of a spec, or of a recipe.

    In an editor with a YAML language server, the first line of the file may be
    `# yaml-language-server: $schema=spec.schema.json`.
    """
    text = json.dumps(_schema(recipe), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    what = "recipe" if recipe else "spec"
    typer.echo(f"{out}: name it in the first line of a {what}: # yaml-language-server: $schema={out}")


def _schema(recipe: bool) -> dict[str, Any]:
    if recipe:
        from archc.train.recipe_schema import recipe_schema

        return recipe_schema()
    from archc.spec.schema import schema as spec_schema

    return spec_schema()
