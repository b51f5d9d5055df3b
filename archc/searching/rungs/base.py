"""What a rung of a search file is: options, and the scorer that they make over a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import numpy as np
from annotated_types import Gt
from typing_extensions import Doc

from archc.kernels.errors import ArchcError
from archc.search.choices import Points
from archc.search.figures import Values
from archc.search.ladder import Candidate, Report, Scorer
from archc.search.proxies import Proxy
from archc.searching.base import Base

T = TypeVar("T", bound="type[RungOptions]")

RUNGS: dict[str, type[RungOptions]] = {}


@dataclass(frozen=True, kw_only=True)
class RungOptions:
    """Base of all rungs. The scores of one are cached by all that they depend on."""

    keep: Annotated[int, Gt(0), Doc("how many candidates go on to the next rung")] = 1

    name: ClassVar[str]
    proxy: ClassVar[bool] = False  # whether it scores by arithmetic, many points at once
    trains: ClassVar[bool] = False  # whether it tells of scores on its way, by which it can be stopped

    def below(self, folder: Path) -> RungOptions:
        """The same, files relative to the folder of the search file."""
        return self

    def check(self, base: str, before: Sequence[RungOptions], *, scored: bool) -> None:
        """Raise ArchcError where it cannot score candidates of a base after the rungs `before`; `scored` says whether
        there is importance of the base."""

    def scorer(self, base: Base, folder: Path, before: Scorer | None) -> Scorer:
        """The scorer over a base, which may write below the run's folder; `before` is that of the rung below."""
        raise NotImplementedError


class ProxyScorer:
    """A scorer by arithmetic: of many points at once, and of a candidate alone."""

    @property
    def proxy(self) -> Proxy:
        """What scores the points."""
        raise NotImplementedError

    def values(self, points: Points) -> Values:
        """The score of every point."""
        return self.proxy.values(points)

    def score(self, candidate: Candidate, report: Report) -> float:
        """The score of a candidate."""
        return float(self.values({name: np.array([value]) for name, value in candidate.point.items()})[0])


def check_weights(name: str, base: str) -> None:
    """Raise ArchcError for a base without weights."""
    if not Path(base).is_dir():
        raise ArchcError(f"`{name}` runs a model: `base` must be a folder with weights, got `{base}`")


def rung(name: str) -> Callable[[T], T]:
    """Register the options of a rung under the name that search files use."""

    def register(cls: T) -> T:
        cls.name = name
        RUNGS[name] = cls
        return cls

    return register
