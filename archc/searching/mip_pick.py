"""Candidates of a search for variants: the graph that their passes make, and the recipe that makes them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.compress.fitting import unfitted
from archc.importance.calibration import Sampling
from archc.ir.graph import Graph
from archc.passes import Pipeline, apply
from archc.search.library import scored_by, sized
from archc.searching.mip_file import MipFile, load_mip
from archc.train.sources import STDLIB
from archc.train.tokenizers import BYTES_NAME


@dataclass(frozen=True)
class PickedMip:
    """A combination of a run, with its search."""

    search: MipFile
    found: Mapping[str, Any]
    importance: str | None

    @property
    def pipeline(self) -> Pipeline:
        """The passes that make it."""
        return Pipeline.parse("\n".join(self.found["passes"]))

    @property
    def graph(self) -> Graph:
        """Its graph, by its own name."""
        made, _ = apply(self.search.library.graph, sized(self.pipeline))
        return dataclasses.replace(made, name=self.found["name"])

    @property
    def described(self) -> str:
        """Its name and its variants in words."""
        counts = Counter(self.found["variants"])
        return f"{self.found['name']}: " + ", ".join(f"{count} x {name}" for name, count in counts.items())

    @property
    def recipe(self) -> str:
        """The compression recipe that makes it of the base's weights, on the scores and the text of the search."""
        lines = [f"# {self.described}", "archc_compress: 1", f"name: {self.found['name']}", *self._sections()]
        passes = [f"  - {json.dumps(str(one))}" for one in self.pipeline.passes]
        return "\n".join([*lines, *(["passes:", *passes] if passes else ["passes: []"])]) + "\n"

    def _sections(self) -> Iterator[str]:
        passes = self.pipeline.passes
        if self.importance and any(map(scored_by, passes)):
            yield f"importance: {json.dumps(self.importance)}"
        if any(map(unfitted, passes)):
            yield f"calibration: {json.dumps(_sampling(self.search.calibration))}"


def picked_mip(run: Path, file: str, stored: Mapping[str, Any], found: Mapping[str, Any]) -> PickedMip:
    """A candidate of a run's results."""
    search = load_mip(run / file, folder=Path(stored["folder"]))
    return PickedMip(search, found, stored["importance"])


def _sampling(how: Sampling) -> dict[str, Any]:
    """The text as a recipe says it, wherever that lies."""
    given = {f.name: getattr(how, f.name) for f in dataclasses.fields(how)}
    given["data"] = [place if place == STDLIB else str(Path(place).absolute()) for place in how.data]
    if how.tokenizer not in (None, BYTES_NAME):
        given["tokenizer"] = str(Path(how.tokenizer).absolute())
    return {name: value for name, value in given.items() if value is not None}
