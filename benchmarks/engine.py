"""What the training engine costs beside the bare step of the same model on the same batches.

    python benchmarks/engine.py [STEPS]

Both train tiny-hybrid, 4 x 128 bytes a step, in turn step by step, so that a busy machine slows both alike. The engine
draws the batch, tells metrics.jsonl and TensorBoard, balances experts and watches for trouble. Medians of single
steps. Evaluation and checkpoints are timed apart.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archc.train.assemble import assemble
from archc.train.defaults import default_recipe
from archc.train.engine import Trainer
from archc.train.parts import parts_of
from archc.train.report import jsonl_log, tensorboard_log


def main(steps: int) -> None:
    """Print the ratio of both, and what else a run does now and then."""
    torch.set_num_threads(1)
    recipe = default_recipe(
        "tiny-hybrid", [f"budget={{steps: {steps}}}", "schedule={wsd: {warmup: 0, decay: 0}}"], mtp=True
    )
    ours, theirs = (assemble(recipe, parts_of(recipe)).task for _ in range(2))
    bare, optimizer = theirs.model, recipe.optimizer.build(theirs.model.parameters())
    batches = [theirs.stream.batch(range(4 * s, 4 * s + 4)) for s in range(steps)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with jsonl_log(folder / "m.jsonl") as log, tensorboard_log(folder / "tb") as board:
            trainer = Trainer(ours, recipe, folder, report=[log, board])
            pairs = [
                (_timed(trainer.train_step), _timed(partial(_bare_step, bare, theirs, optimizer, b))) for b in batches
            ]
        trainer.report = []
        trainer.checkpoints.background = False  # type: ignore[union-attr]
        once = {"evaluation": _timed(trainer.measure), "checkpoint, written at once": _timed(trainer.save)}
        trainer.checkpoints.background, trainer.saved = True, None  # type: ignore[union-attr]
        once["checkpoint, until training goes on"] = _timed(trainer.save)
        trainer.checkpoints.finish()  # type: ignore[union-attr]
    pairs = pairs[3:]
    engine, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    told = f"engine {1e3 * engine:.1f} ms, bare {1e3 * alone:.1f} ms a step"
    print(f"{told}; median ratio {ratio:.3f} of {len(pairs)} steps")
    for name, seconds in once.items():
        print(f"{name}: {1e3 * seconds:.0f} ms")


def _bare_step(model: nn.Module, task: Any, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    """A step as one would write it by hand."""
    optimizer.zero_grad(set_to_none=True)
    values = task.losses(model, batch)
    values.objective(task.losses.counts(batch)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _timed(do: Any) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
