"""Comparing runs: what each was and how it ended, and their curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from archc.kernels.errors import ArchcError, suggestion

RECIPE, METRICS = "recipe.yaml", "metrics.jsonl"  # of archc.train.rundir, without what that needs


@dataclass(frozen=True)
class Run:
    """The folder of a run and what it told."""

    folder: Path

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """The lines of its metrics; one that was cut short is left out."""
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return tuple(found for line in lines if (found := _parsed(line)) is not None)

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """Its recipe as plain data."""
        from archc.yamlfile import load_yaml

        found = load_yaml(self.folder / RECIPE).data
        return found if isinstance(found, dict) else {}

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Steps and values of a metric, the last told of each step."""
        told = {r["step"]: r[metric] for r in self.records if isinstance(r.get(metric), int | float)}
        return sorted((step, float(value)) for step, value in told.items() if math.isfinite(value))

    def last(self, metric: str) -> float | None:
        """The last value of a metric."""
        curve = self.curve(metric)
        return curve[-1][1] if curve else None

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that are numbers."""
        names = (name for r in self.records for name, v in r.items() if isinstance(v, int | float))
        return list(dict.fromkeys(name for name in names if name != "step"))

    @property
    def steps(self) -> int:
        """How far it came."""
        return max((r["step"] for r in self.records), default=0)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def find_runs(places: Iterable[Path]) -> list[Run]:
    """The runs in these folders and below. Raises ArchcError for a place without one."""
    found: dict[Path, Run] = {}
    for place in places:
        here = [place] if _is_run(place) else sorted(p.parent for p in place.rglob(METRICS) if _is_run(p.parent))
        if not here:
            what = "no run in it" if place.is_dir() else "no such folder"
            raise ArchcError(f"{place}: {what}: a run has {RECIPE} and {METRICS}")
        found |= {folder: Run(folder) for folder in here}
    return list(found.values())


def _is_run(folder: Path) -> bool:
    return (folder / RECIPE).is_file() and (folder / METRICS).is_file()


def names(runs: Sequence[Run]) -> list[str]:
    """A short name of each run: its path without what all have in common."""
    parts = [run.folder.resolve().parts for run in runs]
    common = 0
    while len(runs) > 1 and all(len(p) > common + 1 for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    return ["/".join(p[common if len(runs) > 1 else -1 :]) for p in parts]


def changed(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the recipes do not have in common, by path: the value of each run."""
    flat = [dict(_leaves(run.recipe)) for run in runs]
    paths = dict.fromkeys(path for one in flat for path in one)
    values = {path: [one.get(path, "-") for one in flat] for path in paths}
    return {path: found for path, found in values.items() if len(set(found)) > 1}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or not value:
        yield path, str(value)
        return
    for name, item in items:
        yield from _leaves(item, f"{path}.{name}" if path else str(name))


def check_metric(runs: Sequence[Run], metric: str) -> None:
    """Raise ArchcError where no run has a metric."""
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    if metric not in known:
        raise ArchcError(f"no run has the metric `{metric}`{suggestion(metric, known)}")
