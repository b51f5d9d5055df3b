"""A study whose trials cost: a sampler proposes, the first rung scores, trial by trial, by one worker or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from archc.search.budgets import Budget, Objective, violations
from archc.search.choices import Point, Space
from archc.search.figures import Figure, Meter
from archc.search.ladder import Cache, Candidate, Scorer, scored
from archc.search.samplers import Proposals
from archc.search.study import abandoned, begin, fail, finish


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

    Trials that a killed worker left are tried again first. `scorers` give the scores that are objectives, by name; a
    candidate that one cannot score is a failed trial with its cause, and counts."""
    waiting = abandoned(study, alive)
    while _finished(study) < trials:
        proposals.hear(study.get_trials(deepcopy=False))
        if waiting:
            point, notes = waiting.pop(0), dict[str, Any]()
        else:
            proposed = proposals.next()
            point, notes = proposed.point, dict(proposed.notes)
        trial = begin(study, space, point, notes, worker)
        columns = {name: np.array([value], dtype=np.int64) for name, value in point.items()}
        over = violations(meter, budgets, columns)[:, 0]
        candidate, values = make(point), list[float]()
        for objective in objectives:
            if isinstance(objective.figure, Figure):
                values.append(float(meter.take(objective.figure, columns)[0]))
                continue
            name = objective.figure.name
            candidate = scored(scorers[name], candidate, cache)
            if name in candidate.failed:
                fail(study, trial, candidate.failed[name])
                break
            values.append(candidate.scores[name])
        else:
            finish(study, trial, budgets, values, list(over))
        tell(study.trials[trial.number])


def _finished(study: Any) -> int:
    """Trials that count: those a dead worker left do not."""
    return sum(1 for _ in counted(study))


def counted(study: Any) -> Iterator[Any]:
    """Finished trials: complete ones, and those that failed with a cause."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "COMPLETE" or (trial.state.name == "FAIL" and "error" in trial.user_attrs):
            yield trial
