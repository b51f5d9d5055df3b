"""What a search for variants of layers has found, and as plain data for `archc best` and reports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from archc.search.budgets import Objective
from archc.search.choices import Choice
from archc.search.figures import Score
from archc.search.library import KEEP, Library, Replacement
from archc.search.space import Space
from archc.searching.folder import VERSION
from archc.searching.mip_file import MipFile
from archc.searching.reading import MIP
from archc.searching.replacing import Measured


@dataclass(frozen=True)
class Combination:
    """A variant for each layer: what the sum of scores predicts, what it loses, and its figures by budget."""

    name: str
    predicted: float
    measured: Measured
    figures: tuple[float, ...]
    violations: tuple[float, ...]
    variants: tuple[str, ...]
    passes: tuple[str, ...] = ()
    on_front: bool = False


@dataclass(frozen=True)
class FoundMip:
    """What a search for variants has found. `library` are those that could be measured, `losses` what each loses."""

    search: MipFile
    library: Library
    losses: Mapping[Replacement, Measured]
    combinations: tuple[Combination, ...]
    base: Combination
    best: str
    seconds: Mapping[str, float]
    report: Mapping[str, Any]
    excluded: tuple[tuple[str, str], ...] = ()  # what the target's runtime does not load, and why
    scores: Path | None = None
    neighbours: int = 0

    @cached_property
    def agreement(self) -> float | None:
        """Rank correlation (Spearman's) of what was predicted and measured, over all combinations; of three or more."""
        predicted, measured = (np.argsort(np.argsort(row)) for row in self.report["cloud"]["values"])
        found: Any = np.corrcoef(predicted, measured) if len(predicted) > 2 else None
        return None if found is None else float(found[0, 1])

    def notes(self) -> Iterator[str]:
        """What was measured alone and together, how long it took, and what could not be."""
        alone = sum(bool(one.variant.passes) for one in self.losses)
        layers, seconds = len(self.library.layers), self.seconds
        yield f"{alone:,} replacements in {layers} layers measured alone ({seconds['replacements']:.1f} s)"
        more = f", {self.neighbours} neighbours" if self.neighbours else ""
        rank = "" if self.agreement is None else f"; rank correlation with the prediction {self.agreement:.2f}"
        yield (
            f"{len(self.combinations)} combinations (HiGHS {seconds['solver']:.1f} s){more} measured together "
            f"({seconds['combinations']:.1f} s){rank}"
        )
        if any(v > 0 for v in self.base.violations):
            over = (str(b) for b, v in zip(self.search.budgets, self.base.violations, strict=True) if v > 0)
            yield f"the base itself is not within {', '.join(over)}"
        if self.search.target:
            first = f", such as {': '.join(self.excluded[0])}" if self.excluded else ""
            yield f"`{self.search.target}` loads them; left out: {len(self.excluded)}{first}"
        failed = [(one, found.failed) for one, found in self.losses.items() if found.failed]
        for one, why in failed[:1]:
            yield f"not measured: {len(failed)}, such as layer {one.layer}, {one.variant.name}: {why}"

    def to_json(self) -> dict[str, Any]:
        """What `archc best` and the report need, as plain data."""
        space = tallies(self.library)
        return {
            "archc_search_results": VERSION,
            "sampler": MIP,
            "name": self.search.name,
            "base": self.search.base,
            "folder": str(self.search.folder),
            "metric": self.search.sampler.metric,
            "objectives": [str(o) for o in objectives(self.search)],
            "budgets": [str(b) for b in self.search.budgets],
            "proposed": len(self.combinations) + self.neighbours,
            "feasible_at_once": len(self.combinations) + self.neighbours,
            "feasible": len(self.combinations) + self.neighbours,
            "space": math.prod(len(options) for options in self.library.layers),
            "whole": False,
            "seconds": round(sum(self.seconds.values()), 3),
            "seconds_of": {name: round(value, 3) for name, value in self.seconds.items()},
            "knee": self.best,
            "best": self.best,
            "rungs": [],
            "base_figures": _json(self.base, space),
            "candidates": [_json(one, space) for one in self.combinations],
            "library": [list(_library_rows(self, options)) for options in self.search.library.layers],
            "importance": str(self.scores.absolute()) if self.scores else None,
            "target": self.search.target,
            "agreement": self.agreement,
            "notes": list(self.notes()),
            "excluded": [{"what": what, "why": why} for what, why in self.excluded],
            "report": self.report,
        }


# -- combinations as counts of variants --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally(Choice):
    """How many layers have a variant: what a report shows of a combination."""

    had: int = field(default=0)

    def symbols(self, values: Any) -> Iterator[tuple[str, Any]]:
        yield from ()

    @property
    def base(self) -> int:
        return self.had


def objectives(search: MipFile) -> tuple[Objective, Objective]:
    """What is predicted and what is measured, both to be small."""
    metric = search.sampler.metric
    return (
        Objective(Score(f"{metric}.predicted"), "minimize", f"minimize {metric}.predicted"),
        Objective(Score(f"{metric}.measured"), "minimize", f"minimize {metric}.measured"),
    )


def tallies(library: Library) -> Space:
    """A choice for each variant, whose values are how many layers have it."""
    names = Counter(r.variant.name for options in library.layers for r in options if r.variant.name != KEEP.name)
    return Space(library.graph, tuple(Tally(name, tuple(range(count + 1))) for name, count in names.items()))


def tally(space: Space, variants: Sequence[str]) -> dict[str, int]:
    """How many layers have each variant."""
    return {name: sum(v == name for v in variants) for name in space.names}


def _json(one: Combination, space: Space) -> dict[str, Any]:
    return {
        "name": one.name,
        "point": tally(space, one.variants),
        "values": [one.predicted, one.measured.loss],
        "figures": list(one.figures),
        "violations": list(one.violations),
        "front": one.on_front,
        "scores": {},
        "failed": {"measured": one.measured.failed} if one.measured.failed else {},
        "variants": list(one.variants),
        "passes": list(one.passes),
    }


def _library_rows(found: FoundMip, options: Sequence[Replacement]) -> Iterator[dict[str, Any]]:
    """What is known of each variant of a layer."""
    for one in options:
        there = found.losses.get(one)
        yield {
            "layer": one.layer,
            "block": one.block,
            "variant": one.variant.name,
            "passes": str(one.pipeline).splitlines(),
            "loss": there.loss if there else None,
            "failed": there.failed if there else "excluded",
        }
