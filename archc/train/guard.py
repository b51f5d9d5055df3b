"""Watching for steps that go wrong: a loss or gradient that is not finite, and loss spikes."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Literal

from archc.train.recipe import Guard

Action = Literal["stop", "rollback"]


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a step, and what the recipe says to do about it."""

    what: str
    action: Action


@dataclass
class Watch:
    """The losses of the last good steps, and how often the run has rolled back; both resume with it."""

    guard: Guard
    recent: list[float] = field(default_factory=list)
    rollbacks: int = 0

    def trouble(self, loss: float, gradient: float) -> Trouble | None:
        """What is wrong with a step of this loss and norm of the gradient, if anything."""
        for what, value in (("loss", loss), ("norm of the gradient", gradient)):
            if not math.isfinite(value):
                return Trouble(f"the {what} is {value}", self.guard.nan)
        spike = self.guard.spike
        if spike is None or len(self.recent) < spike.window:
            return None
        usual = statistics.median(self.recent)
        if loss <= spike.factor * usual:
            return None
        return Trouble(
            f"the loss is {loss:.4g}, above {spike.factor:g} times {usual:.4g} of {spike.window} steps", spike.action
        )

    def passed(self, loss: float) -> None:
        """Note the loss of a good step."""
        spike = self.guard.spike
        if spike is not None:
            self.recent = [*self.recent, loss][-spike.window :]
