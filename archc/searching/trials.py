"""Trials of one of Optuna's samplers, and the ladder that the best of them climb."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archc.outfile import write_whole
from archc.search.budgets import Measured, violations
from archc.search.figures import Meter
from archc.search.ladder import Rung, Scorer
from archc.search.optimise import counted, optimise
from archc.search.samplers import Proposals, make_sampler
from archc.search.sweep import Swept
from archc.searching.base import FIRST, Base, scores_for
from archc.searching.file import SearchFile
from archc.searching.workers import Worker
from archc.train.corpus import cache_folder


def ladder(search: SearchFile, base: Base, folder: Path) -> tuple[Rung, ...]:
    """The rungs of a search file over its base."""
    made: list[Rung] = []
    before: Scorer | None = None
    for options in search.rungs:
        before = options.scorer(base, folder, before)
        made.append(Rung(before, options.keep))
    return tuple(made)


def proxies_of(rungs: Sequence[Rung]) -> dict[str, Any]:
    """Scores of many points at once, of the rungs that have them, by the rung's name."""
    return {rung.scorer.name: rung.scorer.values for rung in rungs if hasattr(rung.scorer, "values")}


def base_of(search: SearchFile, folder: Path) -> Base:
    """The base model that candidates inherit from; its importance is measured where the file says how."""
    path = Path(search.base)
    scores = scores_for(search.importance, path, folder)
    return Base(path, search.space, search.by if scores else FIRST, scores)


@dataclass(frozen=True)
class ScoreFiles:
    """Known scores, one file each, in the folder that every search of this machine shares."""

    folder: Path

    @classmethod
    def shared(cls) -> ScoreFiles:
        """Those in archc's cache folder."""
        return cls(cache_folder() / "scores")

    def get(self, key: str) -> float | None:
        """The score of a key, or None."""
        try:
            return float(json.loads((self.folder / key).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def put(self, key: str, score: float) -> None:
        """Keep a score."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / key, json.dumps(score))


def run_trials(
    search: SearchFile,
    study: Any,
    base: Base,
    rungs: Sequence[Rung],
    meter: Meter,
    tell: Callable[[Any], None],
) -> None:
    """Ask the sampler for trials until there are as many as the file says."""
    with Worker(study) as worker:
        sampler = make_sampler(search.sampler, search.options, search.space, worker.seed(search.seed))
        proposals = Proposals(sampler, search.space, search.budgets, meter, study.directions)
        scorers: Mapping[str, Scorer] = {rung.scorer.name: rung.scorer for rung in rungs}
        optimise(
            study,
            search.space,
            search.budgets,
            search.objectives,
            scorers,
            proposals,
            trials=search.trials,
            worker=worker.name,
            alive=worker.alive,
            make=lambda point: base.candidate("", point),
            cache=ScoreFiles.shared(),
            meter=meter,
            tell=tell,
        )


def found_by(search: SearchFile, study: Any, meter: Meter) -> Swept:
    """The complete trials of a study, each point once."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    names = search.space.names
    once = {tuple(t.user_attrs["point"][n] for n in names): t for t in reversed(complete)}
    points = {name: np.array([key[i] for key in once], dtype=np.int64) for i, name in enumerate(names)}
    values = np.array([t.values for t in once.values()], dtype=np.float64).reshape(-1, len(search.objectives)).T
    over = violations(meter, search.budgets, points) if once else np.zeros((len(search.budgets), 0))
    measured = Measured(points, over, values)
    broken = over > 0
    within = sum(all(v <= 0 for v in t.user_attrs["violations"].values()) for t in complete)
    return Swept(
        measured,
        proposed=len(list(counted(study))),
        feasible_at_once=within,
        feasible=within,
        whole=False,
        order=np.array([t.number for t in once.values()], dtype=np.int64),
        broken=broken.sum(axis=1),
        alone=broken[:, broken.sum(axis=0) == 1].sum(axis=1),
    )
