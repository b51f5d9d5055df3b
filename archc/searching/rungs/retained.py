"""retained: the share of importance that a candidate loses, by arithmetic on scores of the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from typing_extensions import Doc

from archc.kernels.errors import SearchError
from archc.search.ladder import Scorer
from archc.search.proxies import Retained
from archc.searching.base import FIRST, Base
from archc.searching.rungs.base import ProxyScorer, RungOptions, rung


@rung("retained")
@dataclass(frozen=True, kw_only=True)
class RetainedImportance(RungOptions):
    """What goes of the scores that units and layers have, as a share: no model runs. It needs `importance`."""

    proxy: ClassVar[bool] = True

    by_layer: Annotated[str, Doc("the estimator of layers; where none is told they count by their parameters")] = ""

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        if not scored:
            raise SearchError("`retained` needs scores of the base: give the search file `importance`")

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        return _Retained(self, base)


@dataclass(frozen=True, eq=False)
class _Retained(ProxyScorer):
    options: RetainedImportance
    base: Base
    name: str = RetainedImportance.name

    @cached_property
    def proxy(self) -> Retained:
        if self.base.scores is None or self.base.by == FIRST:
            raise SearchError("`retained` needs scores of the base: give the search file `importance`")
        return Retained(self.base.space, self.base.scores, self.base.by, self.options.by_layer)

    @property
    def identity(self) -> str:
        return repr((self.base.identity, self.options.by_layer))
