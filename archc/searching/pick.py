"""Candidates of a finished search, as specs and recipes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.ir.graph import Graph
from archc.kernels.errors import UnknownName
from archc.passes import Pipeline
from archc.passes.ranking import FIRST as FIRST_UNITS
from archc.passes.ranking import RANDOM
from archc.search.library import scored_by
from archc.searching.base import SCORES
from archc.searching.file import SearchFile, load_search
from archc.searching.folder import FILE, read_results
from archc.searching.mip_pick import PickedMip, picked_mip
from archc.searching.reading import MIP

KNEE, FIRST, BEST = "knee", "first", "best"


@dataclass(frozen=True)
class Picked:
    """A candidate of a run, with its search, and the folder that it was searched in."""

    search: SearchFile
    found: Mapping[str, Any]
    run: Path

    @property
    def graph(self) -> Graph:
        """Its graph, by its own name."""
        return dataclasses.replace(self.search.space.build(self.found["point"]), name=self.found["name"])

    @property
    def described(self) -> str:
        """Its name and its choices in words, `-` for those that mean nothing in it."""
        point = self.found["point"]
        told = (f"{c.name} {c.shown(point[c.name]) if self._means(c.name) else '-'}" for c in self.search.space.choices)
        return f"{self.found['name']}: " + ", ".join(told)

    @property
    def scores_file(self) -> Path | None:
        """The scores that its search chose units by: those that its file names, or that it has measured."""
        if isinstance(self.search.importance, Path):
            return self.search.importance.absolute()
        measured = self.run / SCORES
        return measured.absolute() if self.search.importance is not None and measured.is_file() else None

    def recipe(self, by: str | None) -> str:
        """The compression recipe that makes it of the base's weights, units chosen `by` an estimator of the search's
        scores: unless it is given the search's own, or the first units where it has no scores.

        Raises SearchError where no passes make it, UnknownName where there are no such scores."""
        scores = self.scores_file
        by = by or (self.search.by if scores else FIRST_UNITS)
        _check_estimator(by, scores)
        pipeline = self.search.space.passes(self.found["point"], by)
        passes = Pipeline.parse(pipeline).passes if pipeline else ()
        lines = [f"# {self.described}", "archc_compress: 1", f"name: {self.found['name']}"]
        if scores and any(map(scored_by, passes)):
            lines.append(f"importance: {json.dumps(str(scores))}")
        lines += ["passes:", *(f"  - {json.dumps(str(one))}" for one in passes)] if passes else ["passes: []"]
        return "\n".join(lines) + "\n"

    def _means(self, name: str) -> bool:
        """Whether a choice means something in it."""
        condition = self.search.space.conditions.get(name)
        if condition is None:
            return True
        return self.found["point"][condition.on] in condition.values and self._means(condition.on)


def picked(run: Path, which: str) -> Picked | PickedMip:
    """The candidate that `knee`, `first`, `best` (of the highest rung) or a name means. Raises UnknownName."""
    stored = read_results(run)
    by_name = {c["name"]: c for c in stored["candidates"]}
    name = {KNEE: stored["knee"], FIRST: stored["candidates"][0]["name"], BEST: stored["best"]}.get(which, which)
    if name not in by_name:
        raise UnknownName(f"candidate of {run}", which, [KNEE, FIRST, BEST, *by_name])
    if stored.get("sampler") == MIP:
        return picked_mip(run, FILE, stored, by_name[name])
    return Picked(load_search(run / FILE, folder=Path(stored["folder"])), by_name[name], run)


def spec_text(chosen: Picked | PickedMip) -> str:
    """Its spec as YAML."""
    from archc.spec import spec_from_graph

    return spec_from_graph(chosen.graph).to_yaml()


def recipe_text(chosen: Picked | PickedMip, by: str | None = None) -> str:
    """The compression recipe that makes it of the base's weights; `by` is that of `Picked.recipe`. The passes of a
    combination of variants say themselves what they choose units by."""
    return chosen.recipe if isinstance(chosen, PickedMip) else chosen.recipe(by)


def _check_estimator(by: str, scores: Path | None) -> None:
    """Raises UnknownName for what chooses no units."""
    if by in (FIRST_UNITS, RANDOM):
        return
    from archc.importance.files import load_scores

    known = load_scores(scores).units if scores else ()
    if by not in known:
        of = f"of {scores}" if scores else "(the search has no scores)"
        raise UnknownName(f"estimator {of}", by, [FIRST_UNITS, RANDOM, *known])
