"""`archc schema`: the JSON schemas of the files that people write, with which editors complete and check them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Of(StrEnum):
    """The files that have a schema."""

    spec = "spec"
    recipe = "recipe"
    compress = "compress"
    search = "search"


def schema(
    of: Annotated[
        Of,
        typer.Argument(help="A spec, a recipe of `archc train`, of `archc compress`, or a search.", show_default=True),
    ] = Of.spec,
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
) -> None:
    """Print the JSON schema of a spec, a recipe or a search.

    In an editor with a YAML language server, the first line of the file may be
    `# yaml-language-server: $schema=spec.schema.json`.
    """
    text = json.dumps(_SCHEMAS[of](), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    what = {Of.compress: "compression recipe"}.get(of, of.value)
    typer.echo(f"{out}: name it in the first line of a {what}: # yaml-language-server: $schema={out}")


def _spec() -> dict[str, Any]:
    from archc.spec.schema import schema as spec_schema

    return spec_schema()


def _recipe() -> dict[str, Any]:
    from archc.train.recipe_schema import recipe_schema

    return recipe_schema()


def _compress() -> dict[str, Any]:
    from archc.compress.schema import compress_schema

    return compress_schema()


def _search() -> dict[str, Any]:
    from archc.searching.schema import search_schema

    return search_schema()


_SCHEMAS: Mapping[Of, Callable[[], dict[str, Any]]] = {
    Of.spec: _spec,
    Of.recipe: _recipe,
    Of.compress: _compress,
    Of.search: _search,
}
