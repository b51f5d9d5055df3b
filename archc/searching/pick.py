"""Candidates of a finished search, as specs and recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.ir.graph import Graph
from archc.kernels.errors import UnknownName
from archc.searching.file import SearchFile, load_search
from archc.searching.folder import FILE, read_results
from archc.searching.mip_file import MIP
from archc.searching.mip_pick import PickedMip, picked_mip

KNEE, FIRST, BEST = "knee", "first", "best"


@dataclass(frozen=True)
class Picked:
    """A candidate of a run, with its search."""

    search: SearchFile
    found: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        """Its graph, by its own name."""
        return dataclasses.replace(self.search.space.build(self.found["point"]), name=self.found["name"])

    @property
    def described(self) -> str:
        """Its name and its choices in words."""
        return f"{self.found['name']}: " + ", ".join(f"{k} {v}" for k, v in self.found["point"].items())


def picked(run: Path, which: str) -> Picked | PickedMip:
    """The candidate that `knee`, `first`, `best` (of the highest rung) or a name means. Raises UnknownName."""
    stored = read_results(run)
    by_name = {c["name"]: c for c in stored["candidates"]}
    name = {KNEE: stored["knee"], FIRST: stored["candidates"][0]["name"], BEST: stored["best"]}.get(which, which)
    if name not in by_name:
        raise UnknownName(f"candidate of {run}", which, [KNEE, FIRST, BEST, *by_name])
    if stored.get("sampler") == MIP:
        return picked_mip(run, FILE, stored, by_name[name])
    return Picked(load_search(run / FILE, folder=Path(stored["folder"])), by_name[name])


def spec_text(chosen: Picked | PickedMip) -> str:
    """Its spec as YAML."""
    from archc.spec import spec_from_graph

    return spec_from_graph(chosen.graph).to_yaml()


def recipe_text(chosen: Picked | PickedMip, by: str) -> str:
    """The compression recipe that makes it of the base's weights. Raises SearchError where the base is smaller."""
    if isinstance(chosen, PickedMip):
        return chosen.recipe
    passes = chosen.search.space.passes(chosen.found["point"], by)
    lines = [f"  - {text}" for text in passes.split("; ") if text]
    head = f"# {chosen.described}\narchc_compress: 1\nname: {chosen.found['name']}\n"
    return head + ("passes:\n" + "\n".join(f'  - "{line[4:]}"' for line in lines) + "\n" if lines else "passes: []\n")
