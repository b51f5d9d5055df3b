"""The folder of a run: what was asked for, what it told, and where it can go on from.

recipe.yaml           the recipe, defaults and overrides written out; reads back equal
run.json              what the run stands on: hashes of the model, data, tokenizer and teachers, and the command
metrics.jsonl         a record of every step and measurement, a JSON object a line
tensorboard/          the same as TensorBoard events, where that package is installed
checkpoints/step-N/   the whole state (archc.train.checkpoint)
exports/step-N/       the model on the way, as archc checkpoints, where the recipe asks for them
bad/                  batches that went wrong
model.ir ...          the model at the end: the folder itself is an archc checkpoint then
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archc import __version__
from archc.hub.outputs import check_target
from archc.kernels.errors import ArchcError
from archc.outfile import write_whole
from archc.train.recipe import CHANGEABLE, Recipe, differences, recipe_text
from archc.train.recipe_load import load_recipe

RECIPE, FACTS, METRICS = "recipe.yaml", "run.json", "metrics.jsonl"
CHECKPOINTS, EXPORTS, TENSORBOARD = "checkpoints", "exports", "tensorboard"
_LOCK = ".lock"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / RECIPE).is_file() and (folder / FACTS).is_file()


class RunFolder:
    """The folder of a run, new or to be resumed: `resumes` says which, and what has changed since.

    Raises ArchcError for a folder that holds something else, and for a recipe that has changed where a resumed run may
    not."""

    def __init__(self, path: Path, recipe: Recipe, *, overwrite: bool = False) -> None:
        self.path, self.recipe = path, recipe
        self.changes: dict[str, tuple[str, str]] = {}
        self.resumes = is_run(path) and not overwrite
        if self.resumes:
            self.changes = _changes(path, recipe)
        else:
            check_target(path, overwrite)

    @contextlib.contextmanager
    def opened(self, facts: Mapping[str, Any]) -> Iterator[None]:
        """The folder made, or held against what the run began with, and kept from other processes meanwhile.

        `facts` are what the run stands on."""
        fresh = not self.resumes
        if fresh and self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.resumes:
                self._check_facts(facts)
            else:
                write_whole(self.path / FACTS, json.dumps({"archc": __version__, **facts}, indent=2) + "\n")
            write_whole(self.path / RECIPE, recipe_text(self.recipe))
            yield

    def _check_facts(self, facts: Mapping[str, Any]) -> None:
        before = json.loads((self.path / FACTS).read_text(encoding="utf-8"))
        wrong = [name for name, value in facts.items() if name in before and before[name] != value]
        if wrong:
            told = (f"  {name}: {before[name]} then, {facts[name]} now" for name in wrong)
            lines = [f"{self.path}: what the run began with is no longer the same; train into another folder:", *told]
            raise ArchcError("\n".join(lines))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ArchcError(f"{self.path}: another process is training into it") from None
            yield

    def metrics(self, *, after: int | None) -> Path:
        """The file of metrics, without what a killed run told of steps `after` the one that it goes on from."""
        path = self.path / METRICS
        if after is not None and path.is_file():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= after]
            write_whole(path, "".join(f"{line}\n" for line in kept))
        return path


def _step_of(line: str) -> float:
    """The step of a line of metrics; past all steps for one that was cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _changes(path: Path, recipe: Recipe) -> dict[str, tuple[str, str]]:
    """What the recipe changes of that of the run; raises ArchcError where it may not."""
    found = differences(load_recipe(path / RECIPE), recipe)
    refused = {name: pair for name, pair in found.items() if name.partition(".")[0] not in CHANGEABLE}
    if refused:
        told = (f"  {name}: {before} -> {after}" for name, (before, after) in refused.items())
        may = ", ".join(sorted(CHANGEABLE))
        head = f"{path}: the run began with another recipe, so that it cannot go on with this one:"
        raise ArchcError("\n".join([head, *told, f"train into another folder; only {may} may change"]))
    return found
