"""`archc diff A B --html`: the two models side by side, what changed and what it costs, whole in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.ir.diff import Diff
from archc.viz.diff_scene import diff_scene
from archc.viz.page import render

if TYPE_CHECKING:
    from archc.hub.compare import WeightsDiff

SCRIPTS = ("dom", "units", "text", "waterfall", "diff")


def diff_page(diff: Diff, weights: WeightsDiff | None = None) -> str:
    """The page of a diff, and of what became of the weights where they were compared."""
    scene = {**diff_scene(diff), "weights": [] if weights is None else weights.words()}
    return render("diff", f"{diff.a.name} → {diff.b.name}", scene, SCRIPTS)
