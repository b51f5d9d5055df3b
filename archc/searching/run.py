"""A search from its file to its folder: swept, the best recorded as trials, results for the report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.kernels.errors import SearchError
from archc.outfile import write_whole
from archc.search.budgets import Measured, losses, measured, named
from archc.search.choices import Point
from archc.search.figures import Meter, Score
from archc.search.front import front, knee
from archc.search.ladder import Rung, climb, scored
from archc.search.optimise import counted
from archc.search.report import report
from archc.search.study import open_storage, open_study, record
from archc.search.sweep import Swept, sweep
from archc.searching.base import Base
from archc.searching.file import SWEEP, SearchFile
from archc.searching.folder import FILE, STUDY, VERSION, write_results
from archc.searching.live import Live, RungWatch, SweepWatch, TrialWatch
from archc.searching.target import Excluded, refused, restricted
from archc.searching.trials import ScoreFiles, base_of, ladder, run_trials


@dataclass(frozen=True)
class Candidate:
    """A candidate that became a trial: its name, its point, values of the objectives, whether on the front, and its
    scores on the rungs that it has reached."""

    name: str
    point: Point
    values: tuple[float, ...]
    violations: tuple[float, ...]
    on_front: bool
    scores: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a search has found. `candidates` are in the order of the first objective, the front's before the others;
    `report` is that of `archc.search.report`."""

    search: SearchFile
    swept: Swept
    candidates: tuple[Candidate, ...]
    base: Candidate
    knee: str
    best: str
    seconds: float
    report: Mapping[str, Any]
    excluded: tuple[Excluded, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `archc best` and the report need, as plain data."""
        return {
            "archc_search_results": VERSION,
            "name": self.search.name,
            "base": self.search.base,
            "folder": str(self.search.folder),
            "objectives": [str(o) for o in self.search.objectives],
            "budgets": [str(b) for b in self.search.budgets],
            "proposed": self.swept.proposed,
            "feasible_at_once": self.swept.feasible_at_once,
            "feasible": self.swept.feasible,
            "space": self.search.space.size,
            "whole": self.swept.whole,
            "seconds": round(self.seconds, 3),
            "knee": self.knee,
            "best": self.best,
            "rungs": [{"name": rung.name, "keep": rung.keep} for rung in self.search.rungs],
            "base_figures": _json(self.base),
            "candidates": [_json(c) for c in self.candidates],
            "target": self.search.target,
            "excluded": [{"what": one.what, "why": one.why} for one in self.excluded],
            "report": self.report,
        }


def run_search(search: SearchFile, folder: Path) -> Found:
    """Sweep or sample, climb the ladder, record, and write a search's folder, or go on with the one that is there.

    Raises SearchError where no candidate is within the budgets, and where the folder holds another search."""
    began = time.monotonic()
    excluded: tuple[Excluded, ...] = ()
    if search.target is not None:
        space, excluded = restricted(search.space, search.target, search.tp)
        search = replace(search, space=space)
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(open_storage(folder / STUDY), search.name, search.objectives, fingerprint(search))
    write_whole(folder / FILE, search.source)
    meter, base = Meter(search.space), base_of(search, folder)
    rungs = ladder(search, base, folder)
    if search.sampler == SWEEP:
        swept = _swept(search, meter)
    else:
        before = list(counted(study))
        with Live(search.name, search.trials, stage="trials", done=len(before)) as live:
            watch = TrialWatch(live, search.objectives, before)
            swept = run_trials(search, study, base, rungs, meter, watch)
    found = swept.found
    feasible = np.flatnonzero(found.feasible)
    if not len(feasible):
        raise SearchError(nothing_fits(search, found))
    kept = found.at(feasible)
    chosen, count = best(search, kept)
    ends = losses(search.objectives, kept.values)
    bend = int(chosen[:count][knee(ends[:, chosen[:count]])])
    candidates = tuple(
        _candidate(f"{search.name}-{i + 1}", kept, int(at), on_front=i < count) for i, at in enumerate(chosen)
    )
    if search.target is not None:
        candidates, more = _loaded(search, candidates, search.target)
        excluded += more
    front_names = [c.name for c in candidates if c.on_front]
    name = f"{search.name}-{int(np.flatnonzero(chosen == bend)[0]) + 1}"
    name = name if name in front_names else candidates[0].name
    candidates = _climbed(search.name, candidates, rungs, base)
    if search.sampler == SWEEP and not study.trials:
        record(
            study,
            search.space,
            search.budgets,
            [(c.point, c.values, c.violations) for c in candidates],
            [{"name": c.name, "front": c.on_front, "scores": dict(c.scores)} for c in candidates],
        )
    told = report(search.space, search.budgets, search.objectives, swept, feasible[chosen[:count]])
    itself = _itself(search, meter, base, rungs)
    top = _highest(candidates, [rung.name for rung in search.rungs]) or name
    made = Found(search, swept, candidates, itself, name, top, time.monotonic() - began, told, excluded)
    write_results(folder, made.to_json())
    return made


def _swept(search: SearchFile, meter: Meter) -> Swept:
    """Rung 0, shown while it runs."""
    with Live(search.name, min(search.candidates, search.space.size), stage="candidates") as live:
        return sweep(
            search.space,
            search.budgets,
            search.objectives,
            candidates=search.candidates,
            seed=search.seed,
            meter=meter,
            tell=SweepWatch(live, search.objectives),
        )


def _loaded(
    search: SearchFile, candidates: Sequence[Candidate], target: str
) -> tuple[tuple[Candidate, ...], tuple[Excluded, ...]]:
    """The candidates that the runtime loads, and those it does not. Raises SearchError where it loads none."""
    why = {c.name: refused(search.space, c.point, target, search.tp) for c in candidates}
    kept = tuple(c for c in candidates if not why[c.name])
    if not kept:
        raise SearchError(f"`{target}` loads none of the candidates; the first: {next(iter(why.values()))}")
    return kept, tuple(Excluded(name, reason) for name, reason in why.items() if reason)


def _climbed(name: str, candidates: Sequence[Candidate], rungs: Sequence[Rung], base: Base) -> tuple[Candidate, ...]:
    """The candidates with the scores of the rungs that they reach."""
    if not rungs:
        return tuple(candidates)
    cache, asked = ScoreFiles.shared(), [base.candidate(c.name, c.point) for c in candidates]
    climbing = [len(asked), *(min(rung.keep, len(asked)) for rung in rungs[:-1])]
    totals = {rung.scorer.name: most for rung, most in zip(rungs, climbing, strict=True)}
    with Live(name, len(asked)) as live:
        reached = climb(asked, rungs, cache, RungWatch(live, totals))
    return tuple(replace(c, scores=s.scores, failed=s.failed) for c, s in zip(candidates, reached, strict=True))


def _highest(candidates: Sequence[Candidate], rungs: Sequence[str]) -> str:
    """The best candidate of the highest rung that any has reached."""
    for name in reversed(rungs):
        there = [c for c in candidates if name in c.scores]
        if there:
            return min(there, key=lambda c: c.scores[name]).name
    return ""


def best(search: SearchFile, kept: Measured) -> tuple[npt.NDArray[np.int64], int]:
    """Which candidates become trials, the front first, and how many are on it: then the best by each objective."""
    values = losses(search.objectives, kept.values)
    first = front(values)
    chosen = dict.fromkeys(first.tolist())
    orders = [np.argsort(row, kind="stable").tolist() for row in values]
    for ranked in zip(*orders, strict=True):
        for at in ranked:
            if len(chosen) >= search.keep:
                break
            chosen.setdefault(at)
    return np.array(list(chosen), dtype=np.int64), len(first)


def _itself(search: SearchFile, meter: Meter, base: Base, rungs: Sequence[Rung]) -> Candidate:
    """The base model's own figures, and its scores where those are objectives."""
    column = {key: np.array([value], dtype=np.int64) for key, value in search.space.base.items()}
    found = _candidate("base", measured(meter, search.budgets, search.objectives, column), 0, on_front=False)
    scorers = {rung.scorer.name: rung.scorer for rung in rungs}
    asked = base.candidate("base", search.space.base)
    for name in (o.figure.name for o in search.objectives if isinstance(o.figure, Score)):
        asked = scored(scorers[name], asked, ScoreFiles.shared())
    wanted = zip(search.objectives, found.values, strict=True)
    values = tuple(asked.scores.get(o.figure.name, v) if isinstance(o.figure, Score) else v for o, v in wanted)
    return replace(found, values=values, scores=asked.scores, failed=asked.failed)


def nothing_fits(search: SearchFile, found: Measured) -> str:
    """Which budget binds, by how much, and the candidate that comes closest."""
    scale = np.array([abs(b.limit) or 1.0 for b in search.budgets])[:, None]
    over = np.maximum(found.violations / scale, 0)
    closest = int(np.argmin(over.sum(axis=0)))
    told = "; ".join(
        f"{budget} is missed by {found.violations[i, closest]:.6g} {budget.figure.unit} ({share:.1%})"
        for i, budget in enumerate(search.budgets)
        if (share := over[i, closest]) > 0
    )
    point = ", ".join(f"{k} {v}" for k, v in named(found.points, closest).items())
    return f"no candidate is within the budgets. The closest ({point}): {told}"


def fingerprint(search: SearchFile) -> str:
    """What identifies a search in its storage: base, space, budgets, objectives, seed."""
    told: Sequence[Any] = (
        search.space.graph.hash,
        [(c.name, c.values, getattr(c, "order", ())) for c in search.space.choices],
        [str(b) for b in search.budgets],
        [str(o) for o in search.objectives],
        search.seed,
        [search.candidates, search.keep] if search.sampler == SWEEP else [search.sampler, dict(search.options)],
        [repr(rung) for rung in search.rungs],
        [search.by, repr(search.importance)],
    )
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _candidate(name: str, of: Measured, at: int, *, on_front: bool) -> Candidate:
    values, violations = (tuple(map(float, rows[:, at])) for rows in (of.values, of.violations))
    return Candidate(name, named(of.points, at), values, violations, on_front)


def _json(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "point": dict(candidate.point),
        "values": list(candidate.values),
        "violations": list(candidate.violations),
        "front": candidate.on_front,
        "scores": dict(candidate.scores),
        "failed": dict(candidate.failed),
    }
