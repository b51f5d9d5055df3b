"""`archc train`: a model trained as a recipe says, or on the text that every machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archc.train.recipe import Recipe
    from archc.train.record import Summary

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Fields of the recipe, such as optimizer.adamw.lr=1e-3."),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", help="The run's folder; one that is there is resumed.")
]
Minutes = Annotated[float | None, typer.Option(help="The budget: so many minutes.")]
Steps = Annotated[int | None, typer.Option(help="The budget: so many steps, repeatable unlike minutes.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew where the folder is there.")]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="A recipe (YAML), or a model to train on the docstrings of Python's standard library.",
        ),
    ],
    output: Output,
    overrides: Overrides = None,
    minutes: Minutes = None,
    steps: Steps = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a model as a recipe says, and save it as a checkpoint that the other commands read.

    A run that was stopped, by Ctrl-C or worse, goes on where it was when the same command is given again. Ctrl-C ends
    it after its step, saved, with exit status 130.
    """
    from archc.terminal import console
    from archc.train.run import train as run

    chosen = _recipe(recipe, [*budget_overrides(minutes, steps), *(overrides or [])])
    tell(run(chosen, output, console=console(), overwrite=overwrite), output, overwrite=overwrite)


def budget_overrides(minutes: float | None, steps: int | None) -> list[str]:
    """The budget of the options, as overrides of a recipe."""
    if steps is not None and minutes is not None:
        raise typer.BadParameter("--minutes and --steps exclude one another")
    if minutes is not None and not 0 < minutes < math.inf:
        raise typer.BadParameter(f"--minutes must be above 0: got {minutes:g}")
    if minutes is not None:
        return [f"budget={{minutes: {minutes!r}}}"]
    return [] if steps is None else [f"budget={{steps: {steps}}}"]


def _recipe(given: str, overrides: list[str]) -> Recipe:
    """The recipe in a file, or the one that a model alone means."""
    from archc.resolve import load
    from archc.train.defaults import default_recipe
    from archc.train.recipe_load import is_recipe, load_recipe

    if is_recipe(Path(given)):
        return load_recipe(Path(given), overrides)
    return default_recipe(given, overrides, mtp=bool(load(given).mtp_steps))


def tell(summary: Summary, output: Path, *, overwrite: bool) -> None:
    """How a run ended, in a line, and how one that was interrupted goes on; of several processes the first says it.

    Raises typer.Exit with 128 and the signal's number, as shells do, for a run that a signal has ended early."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(_told(summary, output))
        if summary.interrupted:
            how = ", without --overwrite" if overwrite else ""
            typer.echo(f"to go on from step {summary.steps}, give the same command again{how}")
    if summary.signal:
        raise typer.Exit(128 + summary.signal)


def _told(summary: Summary, output: Path) -> str:
    ended = "interrupted" if summary.interrupted else "done"
    loss = ""
    if summary.held_out_loss is not None and summary.first_held_out_loss is not None:
        loss = f": held-out loss {summary.first_held_out_loss:.3f} -> {summary.held_out_loss:.3f} nats a token"
        loss += "" if summary.bits_per_byte is None else f", {summary.bits_per_byte:.3f} bits a byte"
    return f"{ended} after {summary.steps} steps, {summary.tokens:,} tokens{loss}; saved {output}"
