"""A study whose trials cost: a sampler proposes, the first rung scores, trial by trial, by one worker or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from archc.kernels.errors import ArchcError, SearchError
from archc.search.budgets import Budget, Objective, violations
from archc.search.choices import Point
from archc.search.figures import Figure, Meter
from archc.search.ladder import Cache, Candidate, Pruned, Report, Scorer, scored
from archc.search.samplers import Proposal, Proposals
from archc.search.space import Space
from archc.search.study import WORKER, abandoned, begin, fail, finish, prune


def optimise(
    study: Any,
    space: Space,
    budgets: Sequence[Budget],
    objectives: Sequence[Objective],
    scorers: Mapping[str, Scorer],
    proposals: Proposals,
    *,
    trials: int,
    worker: str,
    alive: Callable[[str], bool],
    make: Callable[[Point], Candidate],
    cache: Cache,
    meter: Meter,
    tell: Callable[[Any], None] = lambda trial: None,
) -> None:
    """Run trials until the study has `trials` finished ones, those of other workers and of before included.

    Trials that a killed worker left are tried again first. `scorers` give the scores that are objectives, by name, and
    the study's pruner hears of theirs on the way; a candidate that one cannot score is a failed trial with its cause,
    and counts."""
    waiting: list[Point] = []
    while sum(1 for _ in counted(study)) + _running(study, alive) < trials:
        waiting += abandoned(study, alive)
        proposals.hear(study.get_trials(deepcopy=False))
        proposed = Proposal(waiting.pop(0), fits=True, notes={}) if waiting else proposals.next()
        trial = begin(study, space, proposed.point, proposed.notes, worker)
        columns = {name: np.array([value], dtype=np.int64) for name, value in proposed.point.items()}
        over = list(violations(meter, budgets, columns)[:, 0])
        try:
            values = [
                float(meter.take(o.figure, columns)[0]) if isinstance(o.figure, Figure) else None for o in objectives
            ]
            if None in values:
                scores = _scores(objectives, scorers, make(proposed.point), cache, _report(trial))
                values = [scores[o.figure.name] if v is None else v for o, v in zip(objectives, values, strict=True)]
        except Pruned:
            prune(study, trial, budgets, over)
        except ArchcError as error:
            fail(study, trial, str(error))
        else:
            finish(study, trial, budgets, [v for v in values if v is not None], over)
        tell(study.trials[trial.number])


def _running(study: Any, alive: Callable[[str], bool]) -> int:
    """Trials that other workers, who live, are at."""
    running = (t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING")
    return sum(alive(str(t.user_attrs.get(WORKER, ""))) for t in running)


def _scores(
    objectives: Sequence[Objective],
    scorers: Mapping[str, Scorer],
    candidate: Candidate,
    cache: Cache,
    report: Report,
) -> Mapping[str, float]:
    """The scores that are objectives. Raises SearchError with the cause where one cannot be had, and Pruned."""
    for objective in objectives:
        name = objective.figure.name
        if isinstance(objective.figure, Figure):
            continue
        candidate = scored(scorers[name], candidate, cache, report)
        if name in candidate.failed:
            raise SearchError(candidate.failed[name])
    return candidate.scores


def _report(trial: Any) -> Report:
    """Tells a trial of scores on the way, and raises Pruned where its study's pruner says so."""

    def report(step: int, score: float) -> None:
        trial.report(score, step)
        if trial.should_prune():
            raise Pruned

    return report


def counted(study: Any) -> Iterator[Any]:
    """Trials that count: complete ones, those that were pruned, and those that failed with a cause. Those that a dead
    worker left do not."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "error" in trial.user_attrs):
            yield trial
