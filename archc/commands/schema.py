"""`archc schema`: the JSON schema of specs, with which editors complete and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def schema(
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")] = None,
) -> None:
    """Print the JSON schema of a spec.

    In an editor with a YAML language server, the first line of a spec may be
    `# yaml-language-server: $schema=spec.schema.json`.
    """
    from archc.spec.schema import schema as spec_schema

    text = json.dumps(spec_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: name it in the first line of a spec: # yaml-language-server: $schema={out}")
