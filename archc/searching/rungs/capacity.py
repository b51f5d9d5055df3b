"""capacity: how much smaller a candidate is than the base in what a model learns with, by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Gt
from typing_extensions import Doc

from archc.ir.workload import Workload
from archc.search.figures import Figure, Meter, Setting
from archc.search.ladder import Scorer
from archc.search.proxies import Capacity
from archc.searching.base import Base
from archc.searching.rungs.base import ProxyScorer, RungOptions, rung


@rung("capacity")
@dataclass(frozen=True, kw_only=True)
class CapacityLost(RungOptions):
    """The weighted sum of logarithms of the base's figures over the candidate's: no model runs, and no weights are
    needed."""

    proxy: ClassVar[bool] = True

    of: Annotated[Mapping[str, float], Doc("weights of figures, such as `params.active: 1`")] = field(
        default_factory=lambda: {"params.active": 1.0}
    )
    context: Annotated[int, Gt(0), Doc("tokens, of figures that depend on them")] = 4096

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        for name in self.of:
            Figure(name, Setting(Workload.of(context=self.context)))

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        return _Capacity(self, base)


@dataclass(frozen=True, eq=False)
class _Capacity(ProxyScorer):
    options: CapacityLost
    base: Base
    name: str = CapacityLost.name

    @cached_property
    def proxy(self) -> Capacity:
        setting = Setting(Workload.of(context=self.options.context))
        weights = {Figure(name, setting): weight for name, weight in self.options.of.items()}
        return Capacity(Meter(self.base.space), weights)

    @property
    def identity(self) -> str:
        return repr((self.base.space.graph.hash, sorted(self.options.of.items()), self.options.context))
