"""`archc demo`: the whole way, from the cost of a large model to text from a small one that was trained just now.

It runs archc's own commands, each shown before it runs, so that every line can be typed by hand.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

MODEL = "tiny-hybrid"
PROMPT = "Return the"


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what the demo makes.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 2.0,
) -> None:
    """Cost a 9B hybrid; compile a tiny one, train it on this machine, save it, and let it write."""
    for why, arguments in _steps(output, minutes):
        typer.secho(f"\n{why}", bold=True)
        typer.secho(f"$ archc {shlex.join(arguments)}", fg="cyan")
        _run(arguments)
    typer.secho("\nNext, try", bold=True)
    for command in _suggestions(output, "archc" if shutil.which("archc") else sys.argv[0]):
        typer.echo(f"  {command}")


def _steps(output: Path, minutes: float) -> Iterator[tuple[str, list[str]]]:
    """What to say, and the arguments of the command that does it."""
    package, checkpoint, trained = (str(output / name) for name in ("tiny_hybrid", "checkpoint", "trained"))
    yield (
        "What does a 9B hybrid of Mamba-2 and attention cost on one A10G, with 128k tokens of context?",
        ["estimate", "nemotron-nano-9b-v2", "--hardware", "a10g", "--context", "128k"],
    )
    yield (
        "A tiny hybrid (Mamba-2, attention, mixture of experts, multi-token prediction) as a package of plain torch:",
        ["compile", MODEL, "-o", package, "--overwrite"],
    )
    yield (
        f"Train it for {minutes:g} minutes on the docstrings of Python's standard library, a byte a token:",
        ["train", MODEL, "-o", checkpoint, "--minutes", f"{minutes:g}", "--overwrite"],
    )
    yield (
        "Compile the checkpoint: the same package, with the weights in it.",
        ["compile", checkpoint, "-o", trained, "--overwrite"],
    )
    yield (
        "Let the compiled package write:",
        ["generate", trained, PROMPT, "--max-tokens", "240", "--temperature", "0.7", "--seed", "1"],
    )


def _suggestions(output: Path, archc: str) -> Iterator[str]:
    """Commands to go on with, each with what it is for; `archc` is how the command is called here."""
    examples = {
        f'{archc} generate {output / "trained"} "Raise an error if" --temperature 0': "another beginning",
        f"less {output / 'trained' / 'modeling.py'}": "the model, as if written by hand",
        f"{archc} train {output / 'checkpoint'} -o {output / 'longer'} --minutes 10": "train it further",
        f"{archc} zoo": "the models archc knows, published against computed figures",
        f"{archc} estimate llama-3.1-8b --hardware h100 --input 8k --output 1k": "cost another one",
    }
    width = max(map(len, examples))
    return (f"{command:<{width}}   # {why}" for command, why in examples.items())


def _run(arguments: list[str]) -> None:
    """Run one archc command in a process of its own, on this terminal; the demo ends where one fails."""
    status = subprocess.run([sys.executable, "-m", "archc", *arguments], check=False).returncode
    if status:
        raise typer.Exit(status)
