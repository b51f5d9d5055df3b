"""The papers' compressions, on specs alone: each recipe ends in the zoo's exact model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archc.compress.recipe import load_recipe
from archc.ir.graph import Graph
from archc.passes import Context, apply
from archc.passes.scores import Scores
from archc.resolve import load
from archc.spec import spec_from_graph

RECIPES = sorted((Path(__file__).resolve().parents[2] / "examples/papers").glob("*.yaml"))


def alike(graph: Graph) -> Scores:
    """Scores that say nothing: which units are kept makes no difference to sizes."""
    units = {name: np.zeros((max(d.rows, 1), d.size)) for name, d in graph.dims.items()}
    return Scores(graph.short_hash, {"activation": units})


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_ends_in_the_zoo(file: Path) -> None:
    said = dict(
        line[2:].split(": ", 1) for line in file.read_text().splitlines() if line.startswith(("# parent", "# child"))
    )
    parent, child = load(said["parent"]), load(said["child"])
    recipe = load_recipe(file)
    assert recipe.name == file.stem == child.name
    made, weights = apply(parent, recipe.passes, Context(scores=alike(parent)))
    found, wanted = (replace(spec_from_graph(g), name="_", description="") for g in (made, child))
    assert found == wanted
    assert weights.shapes(parent.weight_shapes()) == child.weight_shapes()


def test_every_paper_is_there() -> None:
    assert len(RECIPES) == 8
