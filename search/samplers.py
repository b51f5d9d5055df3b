"""Optuna's samplers by name, and proposals of them moved into the budgets before they become trials."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archc.kernels.errors import SearchError, UnknownName
from archc.search.budgets import Budget
from archc.search.choices import Point
from archc.search.figures import Meter
from archc.search.space import Space
from archc.search.study import decoded, distribution, encoded
from archc.search.sweep import projected

# Name -> Optuna's class, and what it is given unless the search file says otherwise. Always explicit: Optuna's own
# defaults have changed between versions.
SINGLE = ("cma-es",)  # samplers of one objective
SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tpe": ("TPESampler", {"multivariate": True, "constant_liar": True}),
    "nsga2": ("NSGAIISampler", {"population_size": 20}),
    "nsga3": ("NSGAIIISampler", {"population_size": 20}),
    "gp": ("GPSampler", {}),
    "cma-es": ("CmaEsSampler", {}),
    "random": ("RandomSampler", {}),
    "qmc": ("QMCSampler", {"scramble": True}),
    "grid": ("GridSampler", {}),
    "brute-force": ("BruteForceSampler", {}),
}

# Name -> Optuna's class, and what it is given unless the search file says otherwise.
PRUNERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "median": ("MedianPruner", {}),
    "percentile": ("PercentilePruner", {"percentile": 25.0}),
    "successive-halving": ("SuccessiveHalvingPruner", {}),
    "hyperband": ("HyperbandPruner", {}),
    "threshold": ("ThresholdPruner", {}),
    "patient": ("PatientPruner", {"wrapped_pruner": None, "patience": 1}),
    "wilcoxon": ("WilcoxonPruner", {}),
}


def make_pruner(name: str, options: Mapping[str, Any]) -> Any:
    """One of Optuna's pruners. Raises UnknownName for a name, SearchError for an option that it does not take."""
    if name not in PRUNERS:
        raise UnknownName("pruner", name, PRUNERS)
    import optuna

    cls, defaults = PRUNERS[name]
    return _made("pruner", name, getattr(optuna.pruners, cls), {**defaults, **options})


def make_sampler(name: str, options: Mapping[str, Any], space: Space, seed: int) -> Any:
    """One of Optuna's samplers. Raises UnknownName for a name, SearchError for an option that it does not take."""
    import optuna

    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    cls, defaults = SAMPLERS[name]
    given: dict[str, Any] = {**defaults, **options, "seed": seed}
    if name == "grid":
        given["search_space"] = {c.name: [encoded(c, v) for v in c.values] for c in space.choices}
    return _made("sampler", name, getattr(optuna.samplers, cls), given)


def _made(what: str, name: str, cls: Any, options: Mapping[str, Any]) -> Any:
    """An object of Optuna's, its warnings that something is experimental left unsaid."""
    known = inspect.signature(cls).parameters
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {what} `{name}`", option, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise SearchError(f"{what} `{name}`: {error}") from error
        except ImportError as error:  # cma, for CMA-ES
            raise SearchError(f"{what} `{name}` needs a package that is not installed: {error}") from error


class Proposals:
    """Points that a sampler proposes, each moved into the budgets.

    The sampler works on a study of its own in memory that is told of every trial, so that what becomes a trial of the
    stored study is never outside the budgets where that can be helped."""

    def __init__(self, sampler: Any, space: Space, budgets: Sequence[Budget], meter: Meter, directions: Any) -> None:
        import optuna

        self.space, self.budgets, self.meter = space, budgets, meter
        self.distributions = {c.name: distribution(c) for c in space.choices}
        self.study = optuna.create_study(directions=directions, sampler=sampler)
        self.known: set[int] = set()

    def hear(self, trials: Sequence[Any]) -> None:
        """Learn of finished trials of the stored study, each once."""
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.known:
                self.known.add(trial.number)
                if trial.state.name in ("COMPLETE", "PRUNED"):
                    self.study.add_trial(trial)

    def next(self) -> Proposal:
        """The sampler's next point, moved into the budgets."""
        try:
            asked = self.study.ask(self.distributions)
        except (ImportError, ValueError) as error:  # what a sampler finds out when it is asked at last
            raise SearchError(f"the sampler proposes nothing: {error}") from error
        point = {c.name: decoded(c, asked.params[c.name]) for c in self.space.choices}
        notes = dict(self.study.trials[asked.number].system_attrs)
        self.study.tell(asked, state=_failed())  # it is heard of again as the trial that it becomes
        ranks = self.space.ranks({name: np.array([value], dtype=np.int64) for name, value in point.items()})
        moved, fits = projected(self.space, self.meter, self.budgets, ranks, itself=True)
        at = self.space.at(moved)
        return Proposal({name: int(column[0]) for name, column in at.items()}, bool(fits[0]), notes)


@dataclass(frozen=True)
class Proposal:
    """A point, whether it is within every budget, and what the sampler notes of it (a generation, a grid's place)."""

    point: Point
    fits: bool
    notes: Mapping[str, Any]


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL
