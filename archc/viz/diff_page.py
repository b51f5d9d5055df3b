"""`archc diff A B --html`: the two models side by side, what changed and what it costs, whole in one file."""

from __future__ import annotations

from archc.ir.diff import Diff
from archc.viz.diff_scene import diff_scene
from archc.viz.page import render

SCRIPTS = ("dom", "units", "text", "waterfall", "diff")


def diff_page(diff: Diff) -> str:
    """The page of a diff."""
    return render("diff", f"{diff.a.name} → {diff.b.name}", diff_scene(diff), SCRIPTS)
