"""`archc distill`: training that is held against a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archc.commands.train import Minutes, Output, Overrides, Overwrite, Steps, budget_overrides, tell


def distill(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML) with `teachers`.")],
    output: Output,
    overrides: Overrides = None,
    minutes: Minutes = None,
    steps: Steps = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a student against the teachers of a recipe: `archc train` that insists on a teacher, and a loss for it."""
    from archc.terminal import console
    from archc.train.recipe_load import load_recipe
    from archc.train.run import train as run

    chosen = load_recipe(recipe, [*budget_overrides(minutes, steps), *(overrides or [])])
    if not chosen.teachers:
        raise chosen.error(("teachers",), "`archc distill` needs `teachers`: `archc train` trains without")
    if not any(hasattr(loss, "teacher") for loss in chosen.losses):
        raise chosen.error(("losses",), "no loss asks the teacher: add one such as `logit_kd`")
    tell(run(chosen, output, console=console(), overwrite=overwrite), output, overwrite=overwrite)
