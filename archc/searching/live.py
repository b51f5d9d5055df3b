"""What a search shows while it runs: how far it is, how much fits, the front so far, and when it will be done.

A bar on a terminal's stderr, a line now and then in a log, and nothing of what is done at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from archc.progress import PATIENCE_S
from archc.search.budgets import Measured, Objective, losses
from archc.search.front import front
from archc.search.ladder import Candidate, Rung
from archc.viz.search_scene import written

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as Drawing

DRAW_EVERY_S, LOG_EVERY_S = 0.25, 10.0
_BAR, _BEST = 24, 6


class Live:
    """The progress of one search; use it as a context. `update` may be called as often as one likes."""

    def __init__(
        self,
        name: str,
        total: int,
        *,
        stage: str = "",
        done: int = 0,
        out: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`done` of `total` are there already, from before; `out` is stderr unless it is given."""
        from rich.console import Console

        self.name, self.clock = name, clock
        self.out = out or Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())
        self.feasible: float | None = None
        self.front: int | None = None
        self.best: Sequence[str] = ()
        self._drawing: Drawing | None = None
        self._shown = clock() + PATIENCE_S - (DRAW_EVERY_S if self.out.is_terminal else LOG_EVERY_S)
        self.begin(stage, total, done=done)

    def begin(self, stage: str, total: int, *, done: int = 0) -> None:
        """Count anew: a rung of a ladder, say."""
        self.stage, self.total, self.done = stage, total, done
        self._before, self._began = done, self.clock()

    def update(
        self, done: int, *, feasible: float | None = None, front: int | None = None, best: Sequence[str] = ()
    ) -> None:
        """How many are done, what share of them fits, how many are on the front, and a few lines about the best.

        What is not given is as before."""
        self.done = done
        self.feasible = self.feasible if feasible is None else feasible
        self.front = self.front if front is None else front
        self.best = best or self.best
        if self.due:
            self._show()

    @property
    def due(self) -> bool:
        """Whether an update now would be shown: what is dear to find out can wait until then."""
        return self.clock() - self._shown >= (DRAW_EVERY_S if self.out.is_terminal else LOG_EVERY_S)

    @property
    def line(self) -> str:
        """All of it in words."""
        head = f"{self.name}{f' {self.stage}' if self.stage else ''}: {self.done:,} of {self.total:,}"
        return ", ".join([head, *self._told()])

    def _told(self) -> list[str]:
        told = [] if self.feasible is None else [f"{self.feasible:.0%} within the budgets"]
        told += [] if self.front is None else [f"{self.front:,} on the front"]
        made = self.done - self._before
        if made and self.done < self.total:
            left = (self.clock() - self._began) / made * (self.total - self.done)
            told.append(f"{_duration(left)} left")
        return told

    def _show(self) -> None:
        self._shown = self.clock()
        if not self.out.is_terminal:
            self.out.print(self.line, markup=False)
            return
        if self._drawing is None:
            from rich.live import Live as Drawing

            self._drawing = Drawing(console=self.out, transient=True, auto_refresh=False)
            self._drawing.start()
        self._drawing.update(self._drawn(), refresh=True)

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=_BAR)
        row.add_row(Text(f"{self.name} {self.stage}".rstrip()), bar, Text(f"{self.done:,}/{self.total:,}"))
        lines = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in self.best[:_BEST]]
        return Group(row, Text(", ".join(self._told()), style="dim"), *lines)

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawing is not None:
            self._drawing.stop()


class SweepWatch:
    """Tells a Live of a sweep, block by block: what `archc.search.sweep.sweep` takes as `tell`."""

    def __init__(self, live: Live, objectives: Sequence[Objective]) -> None:
        self.live, self.objectives = live, objectives
        self.done = self.at_once = 0
        self._front = np.empty((len(objectives), 0))
        self._waiting: list[Measured] = []

    def __call__(self, block: Measured, at_once: int) -> None:
        """A block that was measured, and how many of its proposals were within the budgets at once."""
        self.done += block.values.shape[1]
        self.at_once += at_once
        self._waiting.append(block)
        found = self._found() if self.live.due else None
        self.live.update(self.done, feasible=self.at_once / self.done, front=found)

    def _found(self) -> int:
        """How many are on the front by now."""
        fits = [losses(self.objectives, block.values[:, block.feasible]) for block in self._waiting]
        self._waiting.clear()
        joined = np.concatenate([self._front, *fits], axis=1)
        self._front = joined[:, front(joined)]
        return self._front.shape[1]


class TrialWatch:
    """Tells a Live of trials, those of before included: what `archc.searching.trials.run_trials` takes as `tell`."""

    def __init__(self, live: Live, objectives: Sequence[Objective], before: Iterable[Any] = ()) -> None:
        self.live, self.objectives = live, objectives
        self.done = self.complete = self.fits = 0
        self._front = np.empty((len(objectives), 0))
        self._best: list[tuple[float, int]] = [(np.inf, 0)] * len(objectives)
        for trial in before:
            self._hear(trial)

    def __call__(self, trial: Any) -> None:
        """A trial that has finished."""
        self._hear(trial)
        best = [
            f"{objective}: {written(objective.figure.unit, _value(objective, loss))} (trial {number})"
            for objective, (loss, number) in zip(self.objectives, self._best, strict=True)
            if loss < np.inf
        ]
        share = self.fits / self.complete if self.complete else None
        self.live.update(self.done, feasible=share, front=self._front.shape[1], best=best)

    def _hear(self, trial: Any) -> None:
        self.done += 1
        if trial.values is None:  # it has failed
            return
        self.complete += 1
        if any(v > 0 for v in trial.user_attrs["violations"].values()):
            return
        self.fits += 1
        made = losses(self.objectives, np.array(trial.values, dtype=np.float64)[:, None])
        joined = np.concatenate([self._front, made], axis=1)
        self._front = joined[:, front(joined)]
        self._best = [min(old, (float(new), trial.number)) for old, new in zip(self._best, made[:, 0], strict=True)]


class RungWatch:
    """Tells a Live of candidates that climb: what `archc.search.ladder.climb` takes as `tell`."""

    def __init__(self, live: Live, totals: Mapping[str, int]) -> None:
        """`totals` is how many candidates each rung scores at most, by its name."""
        self.live, self.totals = live, totals
        self._done = 0
        self._best: dict[str, tuple[float, str]] = {}

    def __call__(self, rung: Rung, candidate: Candidate) -> None:
        """A candidate that has been scored on a rung, or has failed there."""
        name = rung.scorer.name
        if self.live.stage != name:
            self._done = 0
            self.live.begin(name, self.totals[name])
        self._done += 1
        if name in candidate.scores:
            made = (candidate.scores[name], candidate.name)
            self._best[name] = min(self._best.get(name, made), made)
        best = [f"{rung_name}: {score:.6g} ({who})" for rung_name, (score, who) in self._best.items()]
        self.live.update(self._done, best=best)


def _value(objective: Objective, loss: float) -> float:
    """The figure of which less loss is better."""
    return loss if objective.sense == "minimize" else -loss


def _duration(seconds: float) -> str:
    """A time left in words: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
