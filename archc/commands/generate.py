"""`archc generate`: text from a compiled package, as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def generate(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A folder that `archc compile` wrote.")],
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token every time.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this total probability.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(help="The most tokens to add.")] = 256,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="The folder that has the tokenizer (the package itself), or `bytes`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Arithmetic: float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Continue a text with a compiled model."""
    from archc.emitted import load_emitted
    from archc.generate import Sampling
    from archc.generate import generate as stream
    from archc.train.tokenizers import find_tokenizer

    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens, stop=tuple(stop or ()))
    model = load_emitted(package, device=device, dtype=dtype)
    text = find_tokenizer(tokenizer or str(package))

    began = time.monotonic()
    typer.echo(prompt, nl=False)
    written = 0
    for piece in stream(model, text, prompt, sampling, device=device):
        typer.echo(piece, nl=False)
        sys.stdout.flush()
        written += len(piece)
    typer.echo()
    typer.echo(f"{written} characters in {time.monotonic() - began:.1f} s", err=True)
