"""`sampler: mip` from its file to its folder: replacements measured alone, the best combinations measured together.

library -> costs by arithmetic -> scores measured (cached) -> k best by HiGHS -> measured -> local search -> results
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archc.hub.weights import weights_of
from archc.importance.calibration import Sampling
from archc.importance.files import load_scores
from archc.importance.measuring import Measuring
from archc.kernels.errors import SearchError
from archc.outfile import write_whole
from archc.progress import bar
from archc.search.budgets import Budget
from archc.search.budgets import Measured as Points
from archc.search.front import front
from archc.search.library import KEEP, Library, Replacement, scored_by
from archc.search.mip import Chosen, Problem, k_best, solve
from archc.search.mip_local import improve
from archc.search.node_sums import figure_value, node_sum
from archc.search.report import report
from archc.search.study import fingerprinted, open_storage, open_study, record
from archc.search.sweep import Swept
from archc.searching.base import scores_for
from archc.searching.folder import FILE, STUDY, check_folder, write_results
from archc.searching.mip_file import MipFile
from archc.searching.mip_found import Combination, FoundMip, objectives, tallies, tally
from archc.searching.parent import Parent, identity_of
from archc.searching.replacing import Measured, Ruler
from archc.searching.trials import ScoreFiles
from archc.targets import check


def run_mip(search: MipFile, folder: Path) -> FoundMip:
    """Measure, solve, measure again, and write the folder; what is known of before is not measured again.

    Raises SearchError where no combination is within the budgets, and where the folder holds another search."""
    clock = _Clock()
    library, excluded = _loaded(search)
    solve(library.problem(search.budgets, lambda one: 0.0))  # so that budgets that nothing satisfies are told at once
    check_folder(folder, search.name)
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(open_storage(folder / STUDY), search.name, objectives(search), fingerprint(search))
    write_whole(folder / FILE, search.source)
    ruler, scores = _ruler(search, library, folder)
    clock.passed("importance")
    with bar("replacements", sum(map(len, library.layers))) as advance:
        losses = ruler.replacements(library, lambda _: advance(1))
    clock.passed("replacements")
    there = _measured(library, losses)
    problem = _problem(search, there, losses)
    options = search.sampler
    best = k_best(problem, options.solutions, distance=options.distance, gap=options.gap, limit_s=options.limit_s)
    clock.passed("solver")
    made, known = _tried(search, there, problem, [s.chosen for s in best], ruler)
    clock.passed("combinations")
    combinations = tuple(_combinations(search, there, problem, made, known))
    measured = [c for c in combinations if not c.measured.failed]
    result = FoundMip(
        search=search,
        library=there,
        losses=losses,
        combinations=combinations,
        base=_base(search, library),
        best=min(measured, key=lambda c: c.measured.loss).name,
        seconds=clock.times,
        report=_report(search, there, problem, known, combinations),
        excluded=excluded,
        scores=scores,
        neighbours=len(known) - len(combinations),
    )
    if not study.trials:
        _record(study, search, there, measured)
    write_results(folder, result.to_json())
    return result


def _problem(search: MipFile, library: Library, losses: Mapping[Replacement, Measured]) -> Problem:
    """The choice among what could be measured. Raises SearchError as the solver would, with what could not be."""
    problem = library.problem(search.budgets, lambda one: losses[one].loss)
    failed = [(one, found.failed) for one, found in losses.items() if found.failed]
    if failed:
        try:
            solve(problem, gap=1.0)
        except SearchError as error:
            one, why = failed[0]
            told = f"layer {one.layer}, `{one.variant.name}`: {why}"
            raise SearchError(f"{error}\n{len(failed)} variants could not be measured, such as {told}") from None
    return problem


def _tried(
    search: MipFile, library: Library, problem: Problem, best: Sequence[Chosen], ruler: Ruler
) -> tuple[list[Chosen], dict[Chosen, Measured]]:
    """The best combinations, with where a local search from the best of them ends, and all that was measured."""
    known: dict[Chosen, Measured] = {}
    made = [chosen for chosen in best if not _refused(search, library, chosen)]
    if not made:
        raise SearchError(
            f"`{search.target}` loads none of the best combinations: {_refused(search, library, best[0])}"
        )
    more = search.sampler.evaluations
    with bar("combinations", len(made) + more) as advance:

        def lost(chosen: Chosen) -> float:
            if chosen not in known:
                known[chosen] = ruler.combination(library.pipeline(chosen))
                advance(1)
            return known[chosen].loss

        finite = [chosen for chosen in made if math.isfinite(lost(chosen))]
        if not finite:
            raise SearchError(f"none of the best combinations could be measured; the first: {known[made[0]].failed}")
        if more:
            end = improve(problem, min(finite, key=lost), loss=lost, evaluations=more + 1).chosen
            made += [] if end in made or _refused(search, library, end) else [end]
    return made, known


class _Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.last = time.monotonic()

    def passed(self, name: str) -> None:
        now = time.monotonic()
        self.times[name], self.last = now - self.last, now


# -- before anything is measured ---------------------------------------------------------------------------------------


def _loaded(search: MipFile) -> tuple[Library, tuple[tuple[str, str], ...]]:
    """The library without what the target's runtime would not load. Raises SearchError where it loads nothing."""
    whole, target = search.library, search.target
    if target is None:
        return whole, ()
    before = {str(v) for v in check(whole.graph, target, search.tp)}
    out: list[tuple[str, str]] = []
    layers = []
    for options in whole.layers:
        kept = []
        for one in options:
            new = [str(v) for v in check(one.graph, target, search.tp) if str(v) not in before]
            kept += [] if new else [one]
            out += [(f"layer {one.layer}, {one.variant.name}", new[0])] if new else []
        if not kept:
            raise SearchError(f"`{target}` loads no variant of layer {options[0].layer}: {out[-1][1]}")
        layers.append(tuple(kept))
    return dataclasses.replace(whole, layers=tuple(layers)), tuple(out)


def _refused(search: MipFile, library: Library, chosen: Chosen) -> str:
    """Why the target's runtime does not load a combination; empty where it does."""
    if search.target is None:
        return ""
    return next((str(v) for v in check(library.build(chosen), search.target, search.tp)), "")


def _ruler(search: MipFile, library: Library, folder: Path) -> tuple[Ruler, Path | None]:
    """What measures, and the scores that units are kept by: of the search file, or measured on its text."""
    path, passes = Path(search.base), [p for options in library.layers for r in options for p in r.pipeline.passes]
    by = sorted({scored_by(p) for p in passes} - {""})
    source: Path | Measuring | None = search.importance
    if source is None and by:
        sampling = {f.name: getattr(search.calibration, f.name) for f in dataclasses.fields(Sampling)}
        source = Measuring(estimators=", ".join(by), **sampling)
    scores = scores_for(source, path, folder) if by else None
    weights = weights_of(path)
    parent = Parent(
        path=path,
        weights=weights,
        text=search.calibration.text(path, weights.graph),
        dtype=search.calibration.dtype,
        folder=folder,
        scores=load_scores(scores, weights.graph) if scores else None,
        identity=identity_of(path, weights.graph, scores),
    )
    return Ruler(parent, search.sampler.metric, ScoreFiles.shared(), tuple(passes)), scores


def fingerprint(search: MipFile) -> dict[str, str]:
    """What identifies a search in its storage, part by part."""
    told: Mapping[str, Any] = {
        "base": search.library.graph.hash,
        "library": [[(r.variant.name, str(r.pipeline)) for r in options] for options in search.library.layers],
        "budgets": [str(b) for b in search.budgets],
        "sampler": repr(search.sampler),
        "calibration": repr(search.calibration),
        "importance": repr(search.importance),
        "target": [search.target, search.tp],
    }
    return fingerprinted(told)


# -- what was measured -------------------------------------------------------------------------------------------------


def _measured(library: Library, losses: Mapping[Replacement, Measured]) -> Library:
    """The library of what could be measured. Raises SearchError where a layer has nothing left."""
    layers = tuple(tuple(one for one in options if not losses[one].failed) for options in library.layers)
    for options, left in zip(library.layers, layers, strict=True):
        if not left:
            one = options[0]
            raise SearchError(
                f"layer {one.layer}: none of its variants could be measured; `{one.variant.name}`: {losses[one].failed}"
            )
    return dataclasses.replace(library, layers=layers)


def _combinations(
    search: MipFile, library: Library, problem: Problem, made: Sequence[Chosen], known: Mapping[Chosen, Measured]
) -> Iterator[Combination]:
    """The combinations with their figures, in the order of what is predicted; a local search's end is the last."""
    losses = np.array([[problem.score(chosen), known[chosen].loss] for chosen in made]).T
    finite = np.flatnonzero(np.isfinite(losses).all(axis=0))
    best = set(finite[front(losses[:, finite])].tolist())
    for i, chosen in enumerate(made):
        figures = tuple(_figures(search, problem, chosen))
        yield Combination(
            name=f"{search.name}-{i + 1}",
            predicted=problem.score(chosen),
            measured=known[chosen],
            figures=figures,
            violations=_violations(search.budgets, figures),
            variants=problem.names(chosen),
            passes=tuple(str(library.pipeline(chosen)).splitlines()),
            on_front=i in best,
        )


def _base(search: MipFile, library: Library) -> Combination:
    """The parent itself."""
    sums = [node_sum(budget.figure, library.graph) for budget in search.budgets]
    figures = tuple(figure_value(budget, total) for budget, total in zip(search.budgets, sums, strict=True))
    none = tuple(KEEP.name for _ in library.layers)
    return Combination("base", 0.0, Measured(0.0), figures, _violations(search.budgets, figures), none)


def _figures(search: MipFile, problem: Problem, chosen: Chosen) -> Iterator[float]:
    """What each budget limits."""
    for budget, row in zip(search.budgets, problem.budgets, strict=True):
        yield figure_value(budget, problem.cost(row, chosen))


def _violations(budgets: Sequence[Budget], figures: Sequence[float]) -> tuple[float, ...]:
    return tuple(
        value - budget.limit if budget.sense == "<=" else budget.limit - value
        for budget, value in zip(budgets, figures, strict=True)
    )


# -- records and reports -----------------------------------------------------------------------------------------------


def _record(study: Any, search: MipFile, library: Library, there: Sequence[Combination]) -> None:
    space = tallies(library)
    record(
        study,
        space,
        search.budgets,
        [(tally(space, c.variants), (c.predicted, c.measured.loss), c.violations) for c in there],
        [{"name": c.name, "front": c.on_front, "variants": list(c.variants), "passes": list(c.passes)} for c in there],
    )


def _report(
    search: MipFile,
    library: Library,
    problem: Problem,
    known: Mapping[Chosen, Measured],
    combinations: Sequence[Combination],
) -> dict[str, Any]:
    """The report of all that was measured together."""
    space, there = tallies(library), [chosen for chosen, found in known.items() if not found.failed]
    rows = [tally(space, problem.names(chosen)) for chosen in there]
    points = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in space.names}
    values = np.array([[problem.score(c) for c in there], [known[c].loss for c in there]])
    figures = [_violations(search.budgets, tuple(_figures(search, problem, c))) for c in there]
    over = np.array(figures).T.reshape(len(search.budgets), len(there))
    none = np.zeros(len(search.budgets), dtype=np.int64)
    order = np.arange(len(there))
    swept = Swept(Points(points, over, values), len(there), len(there), len(there), False, order, none, none)
    ends = {c.variants for c in combinations if c.on_front}
    on_front = np.array([i for i, c in enumerate(there) if problem.names(c) in ends], dtype=np.int64)
    return report(space, search.budgets, objectives(search), swept, on_front)
