"""A search from its file to its folder: swept, the best recorded as trials, results for the report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archc.kernels.errors import ArchcError, SearchError
from archc.outfile import write_whole
from archc.search.budgets import Measured, losses, measured, named
from archc.search.choices import Point
from archc.search.figures import Meter, Score
from archc.search.front import front, knee
from archc.search.ladder import Candidate as Scorable
from archc.search.ladder import Rung, climb, scored
from archc.search.optimise import counted
from archc.search.report import report
from archc.search.samplers import make_pruner
from archc.search.study import fingerprinted, open_storage, open_study, record
from archc.search.sweep import Swept, sweep
from archc.searching.base import Base
from archc.searching.compared import Compared, compared
from archc.searching.file import SearchFile, load_search
from archc.searching.folder import FILE, STUDY, VERSION, check_folder, is_search, write_results
from archc.searching.live import Live, RungWatch, SweepWatch, TrialWatch
from archc.searching.reading import SWEEP
from archc.searching.target import Excluded, refused, restricted
from archc.searching.trials import ScoreFiles, base_of, found_by, ladder, proxies_of, run_trials
from archc.searching.workers import side_by_side


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
    compared: tuple[Compared, ...] = ()
    notes: tuple[str, ...] = ()

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
            "refined": self.swept.refined,
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
            "compared": [one.to_json() for one in self.compared],
            "notes": list(self.notes),
            "report": self.report,
        }


def run_search(search: SearchFile, folder: Path) -> Found:
    """Sweep or sample, climb the ladder, record, and write a search's folder, or go on with the one that is there.

    Raises SearchError where no candidate is within the budgets, and where the folder holds another search."""
    began = time.monotonic()
    check_folder(folder, search.name)
    search, excluded = _loadable(search)
    if is_search(folder):
        _study(search, folder)  # another search's folder is refused before anything is done
    meter, base, rungs = _tools(search, folder)
    swept = _swept(search, meter) if search.sampler == SWEEP else None
    if swept is not None and not swept.found.feasible.any():  # nothing is written
        raise SearchError(nothing_fits(search, swept.found))
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(search, folder)
    write_whole(folder / FILE, search.source)
    if swept is None:
        before = list(counted(study))
        with (
            side_by_side(search.workers, folder, search.folder),
            Live(search.name, search.trials, stage="trials", done=len(before)) as live,
        ):
            run_trials(search, study, base, rungs, meter, TrialWatch(live, search.objectives, before))
        swept = found_by(search, study, meter)
    candidates, name, on_front, more = _selected(search, study, swept)
    candidates = _climbed(search.name, candidates, rungs, base)
    if search.sampler == SWEEP and not study.trials:
        record(
            study,
            search.space,
            search.budgets,
            [(c.point, c.values, c.violations) for c in candidates],
            [{"name": c.name, "front": c.on_front, "scores": dict(c.scores)} for c in candidates],
        )
    told = report(search.space, search.budgets, search.objectives, swept, on_front)
    itself = _itself(search, meter, base, rungs)
    top = _highest(candidates, [rung.name for rung in search.rungs]) or name
    beside = compared(
        search.compare, search.budgets, search.objectives, [c.name for c in candidates], [c.values for c in candidates]
    )
    failures = tuple(failed_trials(study)) + tuple(failed_rungs(candidates))
    seconds = time.monotonic() - began
    made = Found(search, swept, candidates, itself, name, top, seconds, told, (*excluded, *more), beside, failures)
    write_results(folder, made.to_json())
    return made


def _selected(
    search: SearchFile, study: Any, swept: Swept
) -> tuple[tuple[Candidate, ...], str, npt.NDArray[np.int64], tuple[Excluded, ...]]:
    """The candidates that are recorded, the name of the one where the front bends, which of what was swept are on the
    front, and what the target does not load. Raises SearchError where there is none."""
    found = swept.found
    feasible = np.flatnonzero(found.feasible)
    if not len(feasible):
        raise SearchError(nothing_fits(search, found) if found.values.shape[1] else nothing_scored(study))
    kept = found.at(feasible)
    chosen, count = best(search, kept)
    ends = losses(search.objectives, kept.values)
    bend = int(chosen[:count][knee(ends[:, chosen[:count]])])
    candidates = tuple(
        _candidate(f"{search.name}-{i + 1}", kept, int(at), on_front=i < count) for i, at in enumerate(chosen)
    )
    name, excluded = candidates[int(np.flatnonzero(chosen == bend)[0])].name, tuple[Excluded, ...]()
    if search.target is not None:
        candidates, excluded = _loaded(search, candidates, search.target)
    if name not in [c.name for c in candidates if c.on_front]:
        name = candidates[0].name
    return candidates, name, feasible[chosen[:count]], excluded


def failed_trials(study: Any) -> Iterator[str]:
    """How many trials failed, and of what most."""
    trials = list(counted(study))
    causes = Counter(t.user_attrs["error"] for t in trials if "error" in t.user_attrs)
    if causes:
        cause, times = causes.most_common(1)[0]
        yield f"{causes.total():,} of {len(trials):,} trials failed, {times:,} of them: {_line(cause)}"


def failed_rungs(candidates: Sequence[Candidate]) -> Iterator[str]:
    """How many candidates each rung could not score, and of what most."""
    causes: dict[str, Counter[str]] = {}
    for candidate in candidates:
        for rung, cause in candidate.failed.items():
            causes.setdefault(rung, Counter())[cause] += 1
    for rung, found in causes.items():
        cause, times = found.most_common(1)[0]
        yield f"{found.total():,} candidates could not be scored by `{rung}`, {times:,} of them: {_line(cause)}"


def _line(cause: str) -> str:
    """The first line of a message."""
    return cause.partition("\n")[0]


def nothing_scored(study: Any) -> str:
    """Why no trial has come to an end."""
    causes = [t.user_attrs["error"] for t in study.get_trials(deepcopy=False) if "error" in t.user_attrs]
    return f"no trial has come to a score; the first: {causes[0]}" if causes else "no trial has come to a score"


def work(folder: Path, names_in: Path) -> None:
    """Run trials of the search in a folder, as one of several processes: see `archc.searching.workers`."""
    search, _ = _loadable(load_search(folder / FILE, folder=names_in))
    meter, base, rungs = _tools(search, folder)
    run_trials(search, _study(search, folder), base, rungs, meter, lambda trial: None)


def _loadable(search: SearchFile) -> tuple[SearchFile, tuple[Excluded, ...]]:
    """The search without what its target does not load, and what that is."""
    if search.target is None:
        return search, ()
    space, excluded = restricted(search.space, search.target, search.tp)
    return replace(search, space=space), excluded


def _study(search: SearchFile, folder: Path) -> Any:
    """The study of a search, in the folder unless the file names a storage."""
    storage = open_storage(search.storage or folder / STUDY)
    pruner = make_pruner(search.pruner, search.pruner_options) if search.pruner else None
    return open_study(storage, search.name, search.objectives, fingerprint(search), pruner)


def _tools(search: SearchFile, folder: Path) -> tuple[Meter, Base, tuple[Rung, ...]]:
    """What measures candidates: by arithmetic, by the base's weights, rung by rung."""
    meter, base = Meter(search.space), base_of(search, folder)
    rungs = ladder(search, base, folder)
    for rung in rungs:
        _ = rung.scorer.identity  # what cannot be read is told before anything runs
    meter.proxies = proxies_of(rungs)
    return meter, base, rungs


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
    cache, asked, unmade = ScoreFiles.shared(), list[Scorable](), dict[str, str]()
    for c in candidates:
        try:
            asked.append(base.candidate(c.name, c.point))
        except ArchcError as error:
            unmade[c.name] = str(error)
    climbing = [len(asked), *(min(rung.keep, len(asked)) for rung in rungs[:-1])]
    totals = {rung.scorer.name: most for rung, most in zip(rungs, climbing, strict=True)}
    with Live(name, len(asked)) as live:
        reached = {s.name: s for s in climb(asked, rungs, cache, RungWatch(live, totals))}
    first = rungs[0].scorer.name
    return tuple(
        replace(c, failed={first: unmade[c.name]})
        if c.name in unmade
        else replace(c, scores=reached[c.name].scores, failed=reached[c.name].failed)
        for c in candidates
    )


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
    wanted = [o.figure.name for o in search.objectives if isinstance(o.figure, Score)]
    if not wanted:
        return found
    asked = base.candidate("base", search.space.base)
    for name in wanted:
        asked = scored(scorers[name], asked, ScoreFiles.shared())
    pairs = zip(search.objectives, found.values, strict=True)
    values = tuple(asked.scores.get(o.figure.name, v) if isinstance(o.figure, Score) else v for o, v in pairs)
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


def fingerprint(search: SearchFile) -> dict[str, str]:
    """What identifies a search in its storage, part by part."""
    sampled = [search.candidates, search.keep] if search.sampler == SWEEP else [search.sampler, dict(search.options)]
    told: Mapping[str, Any] = {
        "base": search.space.graph.hash,
        "space": [
            [
                (c.name, c.values, getattr(c, "order", ()), repr(getattr(c, "meanings", ())))
                for c in search.space.choices
            ],
            sorted((name, c.on, c.values) for name, c in search.space.conditions.items()),
            [str(one) for one in search.passes],
        ],
        "budgets": [str(b) for b in search.budgets],
        "objectives": [str(o) for o in search.objectives],
        "seed": search.seed,
        "sampler": [*sampled, search.pruner, dict(search.pruner_options)],
        "rungs": [repr(rung) for rung in search.rungs],
        "importance": [search.by, repr(search.importance)],
        "target": [search.target, search.tp],
    }
    return fingerprinted(told)


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
