"""The training loop: everything that is trained here is trained by it.

A step draws the next samples by number, adds gradients up over micro-batches, clips, and lets the optimiser move; the
losses are sums over counts that are known beforehand, so that a step does not depend on how it is cut. What differs
between one training and another is a loss, a schedule, a source of data: none of it is known here.

The state of a run is the model, the modules of the losses, the optimiser, the step, the number of the next sample, the
time spent, the guard's memory, and the random states. `restore` brings it back exactly.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.checkpoint import CheckpointFolder, Snapshot
from archc.train.evaluation import HeldOut
from archc.train.guard import Trouble, Watch
from archc.train.interrupts import Heard, interrupts
from archc.train.losses import Losses
from archc.train.memory import used_bytes
from archc.train.placement import Placement
from archc.train.precision import MASTER, narrowed
from archc.train.random_state import random_state, set_random_state
from archc.train.recipe import Recipe
from archc.train.record import Record, Report, Summary


class Samples(Protocol):
    """What a stream is to the engine: batches by the numbers of their samples, and the identity of all of them."""

    @property
    def hash(self) -> str: ...

    def batch(self, numbers: Sequence[int]) -> Batch: ...


class Hook(Protocol):
    """What else happens around optimiser steps, such as keeping experts in balance."""

    def after_step(self) -> Mapping[str, Any]:
        """Called after every step; gives figures for its record."""

    def discard(self) -> None:
        """Called where a step went wrong and is not taken."""


@dataclass(frozen=True)
class Task:
    """What is trained and on what: a model where it lies, samples, losses, held-out text."""

    place: Placement
    stream: Samples
    losses: Losses
    held_out: HeldOut | None = None
    hooks: Sequence[Hook] = ()

    @property
    def model(self) -> Any:
        """The model, or this process's part of it: it has the emitted interface."""
        return self.place.model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device


@dataclass
class Position:
    """How far a run has come. `skipped` are first sample numbers of batches that are gone round."""

    step: int = 0
    next_sample: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    skipped: list[int] = field(default_factory=list)
    first_held_out: float | None = None


class Trainer:
    """Trains a task as a recipe says.

    `folder` takes checkpoints (`checkpoints/`) and batches that went wrong (`bad/`); None keeps nothing. Every Record
    goes to each of `report`; `export(step)` writes the model where the recipe asks for that.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        folder: Path | None = None,
        *,
        report: Sequence[Report] = (),
        export: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self.recipe, self.folder = task, recipe, folder
        self.report, self.export, self.clock = report, export, clock
        _set_determinism(recipe)
        dtype = MASTER[recipe.precision]
        self.owned = task.losses.modules.to(task.device, dtype)  # what losses own is trained, and not exported
        self.others = [p for p in self.owned.parameters() if p.requires_grad]
        self.optimizer = recipe.optimizer.build(task.model.parameters(), self.others)
        self.at = Position()
        self.watch = Watch(recipe.guard)
        self.last: tuple[int, Mapping[str, float]] | None = None
        self.saved: int | None = None
        saving = recipe.checkpoint
        self.checkpoints = (
            CheckpointFolder(folder / "checkpoints", keep=saving.keep, background=saving.write == "async")
            if folder
            else None
        )
        self._began = clock()

    # -- the run -------------------------------------------------------------------------------------------------------

    def run(self) -> Summary:
        """Train until the budget is spent or SIGINT or SIGTERM comes; the state is saved at the end.

        Raises ArchcError where a step goes wrong and the recipe says to stop, or where saving fails."""
        self._began = self.clock() - self.at.elapsed_s
        try:
            with interrupts() as interrupted:
                self._until(interrupted)
        finally:
            if self.checkpoints:
                self.checkpoints.finish()
        return self._summary(interrupted)

    def _until(self, interrupted: threading.Event) -> None:
        if self.at.step == 0:
            self.measure()
        while not self._is_over(interrupted):
            if self.train_step():
                self._after_step()
        if self.last is None or self.last[0] != self.at.step:
            self.measure()
        self.save()

    def _is_over(self, interrupted: threading.Event) -> bool:
        """Whether the budget is spent, or a process was told to end: all processes agree, whatever their clocks say."""
        return max(self.task.place.agreed(self.progress, float(interrupted.is_set()))) >= 1.0

    def _after_step(self) -> None:
        if _due(self.recipe.evaluation.every, self.at.step) and self.progress < 1.0:
            self.measure()
        if _due(self.recipe.checkpoint.every, self.at.step):
            self.save()
        if self.export is not None and _due(self.recipe.export.every, self.at.step):
            self.export(self.at.step)
        if self.checkpoints:
            self.checkpoints.check()

    def _summary(self, heard: Heard) -> Summary:
        early = heard.is_set() and self.progress < 1.0  # in the last step it ends nothing
        figures = self.last[1] if self.last else {}
        return Summary(
            steps=self.at.step,
            tokens=self.at.tokens,
            elapsed_s=self.elapsed_s,
            first_held_out_loss=self.at.first_held_out,
            held_out_loss=figures.get("held_out/loss"),
            bits_per_byte=figures.get("held_out/bits_per_byte"),
            interrupted=early,
            signal=heard.number if early else 0,
        )

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.clock() - self._began

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        return self._progress(self.at.step, self.at.tokens)

    def _progress(self, step: int, tokens: int) -> float:
        budget = self.recipe.budget
        if budget.steps is not None:
            return min(step / budget.steps, 1.0)
        if budget.tokens is not None:
            return min(tokens / budget.tokens, 1.0)
        return min(self.elapsed_s / (60.0 * (budget.minutes or 1.0)), 1.0)

    @property
    def learning_rate(self) -> float:
        """The rate of the step that comes next: the one of where it ends, so that the first step's is not zero."""
        ahead = self._progress(self.at.step + 1, self.at.tokens + self.recipe.batch_tokens)
        return self.recipe.optimizer.lr * self.recipe.schedule.share(ahead)

    # -- a step --------------------------------------------------------------------------------------------------------

    def train_step(self) -> bool:
        """One optimiser step; False where it went wrong and the run rolled back."""
        began, rate = self.clock(), self.task.place.agreed(self.learning_rate)[0]
        first = self._next_first()
        numbers = self.task.place.share(range(first, first + self.recipe.sequences))
        batch = self.task.stream.batch(numbers).to(self.task.device)
        self.task.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        told = self._gradients(batch)
        norm = self._clipped()
        figures: dict[str, Any] = _quotients(told, norm)
        loss = sum(one.weight * figures[label] for label, one in self.task.losses.by_label.items())
        trouble = self.watch.trouble(loss, figures["gradient_norm"])
        if trouble is not None:
            self._handle(trouble, first, batch)
            return False
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        for hook in self.task.hooks:
            figures |= hook.after_step()
        self.watch.passed(loss)
        self.at.step += 1
        self.at.tokens += self.recipe.batch_tokens
        self.at.next_sample = first + self.recipe.sequences
        seconds = max(self.clock() - began, 1e-9)
        speed = {"learning_rate": rate, "tokens_per_s": self.recipe.batch_tokens / seconds}
        self._tell({"loss": loss, **figures, **speed, "memory_bytes": float(used_bytes(self.task.device))})
        return True

    def _next_first(self) -> int:
        """The number of the first sample of the next batch."""
        first = self.at.next_sample
        while first in self.at.skipped:
            first += self.recipe.sequences
        return first

    def _gradients(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Add up gradients over micro-batches; sums and counts of every figure."""
        parts, place = list(self._parts(batch)), self.task.place
        losses = self.task.losses
        counts = place.summed(torch.stack([losses.counts(part) for part in parts]).sum(0))
        counts = torch.where(counts > 0, counts, torch.ones_like(counts))
        told: dict[str, tuple[Tensor, Tensor]] = {}
        with self._narrowed():
            for number, part in enumerate(parts, start=1):
                place.backward_follows(number == len(parts))
                values = losses(self.task.model, part)
                values.objective(counts).backward()  # type: ignore[no-untyped-call]
                for name, (total, count) in values.told().items():
                    before = told.get(name)
                    told[name] = (total, count) if before is None else (before[0] + total, before[1] + count)
        place.gradients_ready(self.others)
        return {
            name: (place.summed(total.double()), place.summed(count.double())) for name, (total, count) in told.items()
        }

    def _narrowed(self) -> contextlib.AbstractContextManager[None]:
        """Weights cast where the model does not do that by itself."""
        return contextlib.nullcontext() if self.task.place.narrows else narrowed(self.task.model, self.recipe.precision)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        size = self.recipe.micro_batch or len(batch)
        return (batch.rows(start, min(start + size, len(batch))) for start in range(0, len(batch), size))

    def _clipped(self) -> Tensor:
        """The norm of the gradient, which is then at most what the recipe allows."""
        norm = self.task.place.norm(self.others)
        if self.recipe.optimizer.clip is not None:
            self.task.place.clip(self.others, norm, self.recipe.optimizer.clip)
        return norm

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def _handle(self, trouble: Trouble, first: int, batch: Batch) -> None:
        """Save the batch, then stop, or go on from the last checkpoint without it."""
        for hook in self.task.hooks:
            hook.discard()
        kept = self._keep(batch)
        last = first + self.recipe.sequences - 1
        said = f"{trouble.what} at step {self.at.step} on samples {first} to {last}{kept}"
        if trouble.action == "stop":
            self._tell({}, event="stop", said=said)
            advice = f'try a rate below {self.recipe.optimizer.lr:g}, or `guard: {{"nan": rollback}}`'
            raise ArchcError(f"{said}: {advice}")
        if self.watch.rollbacks >= self.recipe.guard.rollbacks:
            raise ArchcError(f"{said}: the run has rolled back {self.watch.rollbacks} times already")
        if self.checkpoints is None:
            raise ArchcError(f"{said}: nothing to roll back to")
        self.checkpoints.finish()
        step, _ = self.checkpoints.latest()
        if step is None:
            raise ArchcError(f"{said}: no checkpoint yet to roll back to")
        skipped, rollbacks, at_s = [*self.at.skipped, first], self.watch.rollbacks + 1, self.elapsed_s
        self.restore(step)
        self.at.skipped, self.watch.rollbacks = skipped, rollbacks
        self._began = self.clock() - at_s
        self._tell({}, event="rollback", said=f"{said}: back to step {step}")

    def _keep(self, batch: Batch) -> str:
        """Write a batch to `bad/`; says where."""
        if self.folder is None:
            return ""
        from safetensors.torch import save_file

        path = self.folder / "bad" / f"step-{self.at.step}-sample-{int(batch.index[0])}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.cpu().contiguous() for name, value in vars(batch).items() if value is not None}
        staged = path.with_suffix(f".{os.getpid()}")  # processes of one copy of the model have the same batch
        save_file(tensors, str(staged))
        os.replace(staged, path)
        return f", saved as {path}"

    # -- measuring and telling -----------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Loss on held-out text, told as an event of its own."""
        held_out = self.task.held_out
        if held_out is None:
            return
        self.task.model.eval()
        with self._narrowed():
            figures = held_out.measure(self.task.model, self.task.device)
        if self.at.first_held_out is None:
            self.at.first_held_out = figures["held_out/loss"]
        self.last = (self.at.step, figures)
        self._tell(figures, event="evaluation")

    def _tell(self, figures: Mapping[str, Any], *, event: str = "", said: str = "") -> None:
        record = Record(self.at.step, self.elapsed_s, self.progress, self.at.tokens, figures, event, said)
        for report in self.report:
            report(record)

    # -- state ---------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of this step, if there is none."""
        if self.checkpoints is None or self.saved == self.at.step:
            return
        self.checkpoints.save(Snapshot(self.at.step, self._tensors(), self._facts()))
        self.saved = self.at.step

    def restore(self, step: int) -> None:
        """Bring the state of a checkpoint back."""
        if self.checkpoints is None:
            raise ArchcError("a run without a folder has no checkpoints")
        self._empty_optimizer()
        facts = self.checkpoints.load(step, self._tensors())
        last = facts.pop("last")
        self.last = None if last is None else (last[0], last[1])
        self.watch.recent, self.watch.rollbacks = facts.pop("recent"), facts.pop("rollbacks")
        set_random_state(facts.pop("random"))
        self.at = Position(**facts)
        self.saved = step
        self._began = self.clock() - self.at.elapsed_s

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, as it lies: a checkpoint is written from and read into these."""
        found = self.task.place.tensors(self.optimizer)
        found |= {f"losses.{name}": value for name, value in self.owned.state_dict().items()}
        for name, param in self.owned.named_parameters():
            state = self.optimizer.state.get(param, {})
            found |= {f"optimizer.losses.{name}.{key}": value for key, value in state.items()}
        return found

    def _empty_optimizer(self) -> None:
        """Give the optimiser the state of a run that has begun, to be read into."""
        for group in self.optimizer.param_groups:
            for param in group["params"]:
                if param not in self.optimizer.state:
                    self.optimizer.state[param] = dict(self.recipe.optimizer.empty_state(param))

    def _facts(self) -> dict[str, Any]:
        self.at.elapsed_s = self.elapsed_s
        watch = {"recent": self.watch.recent, "rollbacks": self.watch.rollbacks}
        return {**vars(self.at), **watch, "last": self.last, "random": random_state()}


def _due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _quotients(told: Mapping[str, tuple[Tensor, Tensor]], norm: Tensor) -> dict[str, float]:
    """Every figure, and the norm of the gradient, read from the device at once."""
    flat = [norm.double(), *(part.double() for pair in told.values() for part in pair)]
    norm_read, *read = torch.stack([value.to(flat[0].device) for value in flat]).tolist()
    pairs = zip(read[::2], read[1::2], strict=True)
    figures = {name: total / (count or 1.0) for name, (total, count) in zip(told, pairs, strict=True)}
    return {**figures, "gradient_norm": norm_read}


def _set_determinism(recipe: Recipe) -> None:
    """Seed everything random, and choose algorithms that give the same bits again where the recipe says so."""
    import random

    import numpy as np

    random.seed(recipe.seed)
    np.random.seed(recipe.seed % 2**32)
    torch.manual_seed(recipe.seed)
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(recipe.deterministic)
