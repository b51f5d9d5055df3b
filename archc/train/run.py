"""A training run from end to end: recipe, folder, engine, reports, and the model as an archc checkpoint."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from archc.hub.checkpoint import write_tensors
from archc.hub.checkpoint_dir import GRAPH, new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.kernels.errors import ArchcError, WeightError
from archc.train.assemble import Job, assemble, device_of
from archc.train.checkpoint import last_facts
from archc.train.engine import Trainer
from archc.train.parts import parts_of
from archc.train.recipe import Recipe, recipe_data
from archc.train.record import Report, Summary
from archc.train.report import has_tensorboard, jsonl_log, progress_bar, tensorboard_log
from archc.train.rundir import CHECKPOINTS, EXPORTS, TENSORBOARD, RunFolder
from archc.train.world import is_first, processes, wait_for_all


def train(
    recipe: Recipe, folder: Path, *, console: Console, overwrite: bool = False, told: Sequence[Report] = ()
) -> Summary:
    """Train as a recipe says into the folder of a run, or go on with the run that is there.

    At the end the folder is an archc checkpoint too. Those `told` hear of every record; what they raise ends
    the run. Raises ArchcError for a recipe that does not fit its model or its data, or that a run which is there did
    not begin with, and where the run goes wrong."""
    with processes(recipe, device_of(recipe)):
        console = console if is_first() else Console(quiet=True)
        run = RunFolder(folder, recipe, overwrite=overwrite)
        _check_budget(run, recipe)
        job = assemble(recipe, parts_of(recipe))
        console.print(_about(job, recipe), highlight=False, markup=False)
        with run.opened(job.facts) if is_first() else contextlib.nullcontext():
            wait_for_all()
            return _run(job, recipe, run, console, told)


def _check_budget(run: RunFolder, recipe: Recipe) -> None:
    """Raise SpecError for a changed budget that is less than what the run has done: that cannot be taken back."""
    changed = any(name.partition(".")[0] == "budget" for name in run.changes)
    done = last_facts(run.path / CHECKPOINTS) if changed else None
    if done is None:
        return
    budget, minutes = recipe.budget, done["elapsed_s"] / 60
    before = done["tokens"] - recipe.batch_tokens  # the last step may have gone beyond a budget of tokens
    spent = {
        "steps": (budget.steps, done["step"], f"{done['step']} steps"),
        "tokens": (budget.tokens, before, f"{done['tokens']:,} tokens"),
        "minutes": (budget.minutes, minutes, f"{minutes:.3g} minutes"),
    }
    for name, (allowed, had, said) in spent.items():
        if allowed is not None and had > allowed:
            message = f"`{name}`: the run in {run.path} has done {said} already: got {allowed:,}"
            raise recipe.error(("budget", name), message, hint="give more, or train into another folder")


def _run(job: Job, recipe: Recipe, run: RunFolder, console: Console, told: Sequence[Report]) -> Summary:
    trainer = Trainer(job.task, recipe, run.path, export=_exporter(job, recipe, run.path))
    after = _resumed(trainer, run, console)
    with _reports(run, console, after) as reports:
        trainer.report = [*reports, *told]
        summary = trainer.run()
    publish(job, recipe, summary, run.path)
    return summary


def _resumed(trainer: Trainer, run: RunFolder, console: Console) -> int | None:
    """Bring back the latest whole state of the run, and say so; the step, or None for a new run."""
    if not run.resumes or trainer.checkpoints is None:
        return None
    for name, (before, after) in run.changes.items():
        console.print(f"  {name}: {before} -> {after}", highlight=False, markup=False)
    step, problems = trainer.checkpoints.latest()
    for problem in problems:
        console.print(f"  {problem}", highlight=False, markup=False)
    if step is None:
        console.print("  the run has no checkpoint yet: it begins anew", highlight=False)
        return 0
    trainer.restore(step)
    spent = trainer.progress >= 1.0
    said = f"is done: its budget is spent at step {step}" if spent else f"goes on from step {step}"
    console.print(f"  {said}", highlight=False)
    return step


@contextlib.contextmanager
def _reports(run: RunFolder, console: Console, after: int | None) -> Iterator[list[Report]]:
    if not is_first():
        yield []
        return
    wanted = run.recipe.tensorboard == "on" or (run.recipe.tensorboard == "auto" and has_tensorboard())
    with contextlib.ExitStack() as stack:
        reports = [
            stack.enter_context(jsonl_log(run.metrics(after=after))),
            stack.enter_context(progress_bar(console)),
        ]
        if wanted:
            reports.append(stack.enter_context(tensorboard_log(run.path / TENSORBOARD, after=after)))
        yield reports


def _about(job: Job, recipe: Recipe) -> str:
    count = sum(map(math.prod, job.graph.weight_shapes().values()))
    budget = next(f"{v:g} {k}" for k, v in vars(recipe.budget).items() if v is not None)
    size = f"{recipe.sequences} x {recipe.sequence} tokens a step"
    several = f" x {shared}" if (shared := math.prod(vars(recipe.parallel).values())) > 1 else ""
    where = f"{job.task.device.type}{several}, {recipe.precision}"
    return f"{count / 1e6:.2f}M parameters on {where}; {job.text_tokens / 1e6:.2f}M tokens of text, {size}, {budget}"


# -- the model as an archc checkpoint ----------------------------------------------------------------------------------


def export(job: Job, recipe: Recipe, directory: Path, **outcome: Any) -> None:
    """Write the model as it is now as an archc checkpoint folder, with its history. All processes call it together."""
    weights = job.task.place.weights()
    if not job.task.place.first:
        deque(weights, maxlen=0)
        return
    step = {"step": "train", "recipe": recipe_data(recipe), "facts": dict(job.facts), **outcome}
    with new_checkpoint(directory, job.graph, step, parent=job.parent, overwrite=True) as staged:
        job.tokenizer.save(staged)
        shapes = job.graph.weight_shapes()
        write_tensors(
            staged, (Outgoing(key, "fp32", shape, partial(_next, weights, key)) for key, shape in shapes.items())
        )


def _next(weights: Iterator[tuple[str, torch.Tensor]], wanted: str) -> Iterator[torch.Tensor]:
    """The next weight, on the CPU and in fp32, which is what is trained but for fp64."""
    key, tensor = next(weights)
    if key != wanted:
        raise WeightError(f"the model gives `{key}` where `{wanted}` is to be written")
    yield tensor.detach().to("cpu", torch.float32)


def _exporter(job: Job, recipe: Recipe, folder: Path) -> Callable[[int], None]:
    return lambda step: export(job, recipe, folder / EXPORTS / f"step-{step}", steps=step)


def publish(job: Job, recipe: Recipe, summary: Summary, folder: Path) -> None:
    """Make the run's folder an archc checkpoint too; until its graph is there, which comes last, it is none."""
    staged = folder / ".model"
    export(job, recipe, staged, outcome=vars(summary))
    if not job.task.place.first:
        return
    try:
        names = sorted((p.name for p in staged.iterdir()), key=lambda name: (name == GRAPH, name))
        (folder / GRAPH).unlink(missing_ok=True)
        for old in folder.glob("model*.safetensors*"):
            old.unlink()
        for name in names:
            _move(staged / name, folder / name)
        staged.rmdir()
    except OSError as error:
        raise ArchcError(f"{folder}: the model could not be written: {error.strerror}") from error


def _move(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    os.replace(source, target)
