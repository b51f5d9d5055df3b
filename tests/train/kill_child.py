"""A run that is killed and goes on: what the processes of `test_kill` do. Importing it builds the model, so that
processes forked after that begin at once."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.train.engine_kit import recipe_of, trainer_of

RECIPE = ("budget.steps=24", "checkpoint.every=3", "evaluation.every=7", "micro_batch=3")
trainer_of(recipe_of(*RECIPE))  # compiles


def go_on(folder: Path, write: str, out: Path) -> None:
    """Run to the end from wherever the run in `folder` is, and write the whole state to `out`."""
    trainer = trainer_of(recipe_of(*RECIPE, f"checkpoint.write={write}"), folder, noise=True)
    assert trainer.checkpoints is not None
    step, problems = trainer.checkpoints.latest()
    assert not problems, problems
    if step is not None:
        trainer.restore(step)
    trainer.run()
    state = {name: torch.as_tensor(value).clone().contiguous() for name, value in trainer._tensors().items()}
    partial = out.with_suffix(".partial")
    save_file(state, str(partial))
    partial.rename(out)
