"""Schedules of the learning rate: its share of the highest, over the share of the budget that is spent.

    @schedule("constant")
    class Constant(Schedule):
        def share(self, progress: float) -> float:
            return 1.0

A schedule knows nothing of steps, tokens or minutes, so that it works for every kind of budget.
"""

from __future__ import annotations

import math
import typing
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt
from typing_extensions import Doc

from archc.train.registry import Registry

Share = Annotated[float, Ge(0), Lt(1)]


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
class Schedule:
    """Base of every schedule."""

    name: ClassVar[str]

    def share(self, progress: float) -> float:
        """What the rate is multiplied by at `progress`, which runs from 0 to 1."""
        raise NotImplementedError


schedule: Registry[Schedule] = Registry("schedule")


@schedule("cosine")
class Cosine(Schedule):
    """Linear warm-up, then a cosine down to `final`.

    >>> [round(Cosine(warmup=0.1).share(p), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.55, 0.1]
    """

    warmup: Annotated[Share, Doc("share of the budget over which the rate rises")] = 0.03
    final: Annotated[float, Ge(0), Le(1), Doc("share of the rate that is left at the end")] = 0.1

    def share(self, progress: float) -> float:
        """The share at `progress`."""
        if progress < self.warmup:
            return progress / self.warmup
        rest = min((progress - self.warmup) / (1.0 - self.warmup), 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * rest))


@schedule("wsd")
class WSD(Schedule):
    """Warm-up, stable, decay (Hu et al. 2024): until the decay begins nothing depends on where the run ends, so that
    a run with `decay: 0` can be resumed with a larger budget, and with the decay that ends it.

    `sqrt` decays as 1 - sqrt(t) (Hägele et al. 2024).

    >>> [round(WSD(warmup=0.1, decay=0.2, final=0).share(p), 3) for p in (0.05, 0.1, 0.8, 0.9, 1.0)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    warmup: Annotated[Share, Doc("share of the budget over which the rate rises")] = 0.03
    decay: Annotated[float, Ge(0), Le(1), Doc("share of the budget over which the rate falls, at the end")] = 0.2
    final: Annotated[float, Ge(0), Le(1), Doc("share of the rate that is left at the end")] = 0.0
    form: Annotated[Literal["linear", "sqrt"], Doc("how the rate falls")] = "linear"

    def share(self, progress: float) -> float:
        """The share at `progress`."""
        if progress < self.warmup:
            return progress / self.warmup
        if self.decay == 0 or progress <= 1.0 - self.decay:
            return 1.0
        fallen = min((progress - (1.0 - self.decay)) / self.decay, 1.0)
        return 1.0 - (1.0 - self.final) * (math.sqrt(fallen) if self.form == "sqrt" else fallen)
