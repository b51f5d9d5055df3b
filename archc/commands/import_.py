"""`archc import`: a Hugging Face model becomes an archc checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[Path, typer.Argument(metavar="HF_DIR", help="A folder with config.json and safetensors.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="CKPT", help="The checkpoint's folder.")],
    name: Annotated[str, typer.Option(help="Name of the model; else the folder's.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint if it is there.")] = False,
) -> None:
    """Import a Hugging Face model, every tensor mapped or dropped by name: nothing is lost in silence.

    Families: nemotron_h, nemotron, llama, mistral, qwen2, qwen3, qwen3_moe, gpt_oss, mamba2.
    """
    from archc.hub.import_ import import_checkpoint
    from archc.units import format_params

    made = import_checkpoint(source, out, name=name, overwrite=overwrite)
    elements = sum(map(math.prod, made.graph.weight_shapes().values()))
    typer.echo(f"{out}: `{made.graph.name}`, {format_params(elements)} parameters in {len(made.tensors.names)} tensors")
