"""Comparing runs: a table of how they ended and what their recipes differ in, and curves in one picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from archc.kernels.errors import ArchcError
from archc.train.recipe import recipe_text
from archc.train.runs import changed, check_metric, find_runs, names
from archc.viz.curves import Plot, thinned
from tests.train.engine_kit import recipe_of


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs of three steps, the second with another rate and a line that was cut short."""
    for number, rate in enumerate(("0.02", "0.05")):
        folder = tmp_path / "study" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe_text(recipe_of(f"optimizer.adamw.lr={rate}")))
        steps = [{"step": s, "tokens": 48 * s, "elapsed_s": 0.5 * s, "loss": 3.0 / s + number} for s in (1, 2, 3)]
        measured = {"step": 3, "tokens": 144, "elapsed_s": 2.0, "event": "evaluation", "held_out/loss": 1.5 + number}
        lines = [json.dumps(line) for line in (*steps, measured)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + ('\n{"step": 4, "lo' if number else "\n"))
    return tmp_path / "study"


def archc(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archc", "runs", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_runs_are_found_below_a_folder_and_what_differs_is_told(runs: Path) -> None:
    found = find_runs([runs])
    assert names(found) == ["run-0", "run-1"]
    assert changed(found) == {"optimizer.adamw.lr": ["0.02", "0.05"]}
    assert [run.last("loss") for run in found] == [1.0, 2.0]
    assert [run.steps for run in found] == [3, 3]
    assert found[0].curve("held_out/loss") == [(3, 1.5)]


def test_places_without_a_run_and_unknown_metrics_are_errors(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="no such folder"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchcError, match="no run in it"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(ArchcError, match="no run has the metric `los`: did you mean `loss`"):
        check_metric(find_runs([runs]), "los")


def test_the_table_and_its_json(runs: Path) -> None:
    shown = archc("list", runs).stdout
    assert "run-0" in shown and "0.02" in shown and "1.5000" in shown
    rows = json.loads(archc("list", runs, "--json").stdout)
    assert [row["held_out/loss"] for row in rows] == [1.5, 2.5]
    assert rows[1]["recipe"] == {"optimizer.adamw.lr": "0.05"}


@pytest.mark.parametrize("name", ["plot.svg", "plot.html"])
def test_the_picture_is_whole_and_names_its_runs(runs: Path, tmp_path: Path, name: str) -> None:
    done = archc("plot", runs, "-o", tmp_path / name, "--metric", "loss", "--across", "tokens", "--log")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / name).read_text()
    assert "run-0" in text and "run-1" in text and "tokens" in text
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    paths = ElementTree.fromstring(svg).findall("{http://www.w3.org/2000/svg}path")
    assert sum(p.get("stroke") in ("#3477c4", "#e07b39") for p in paths) == 4
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_plot_says_what_it_needs(runs: Path, tmp_path: Path) -> None:
    assert "needs -o plot.svg" in archc("plot", runs).stderr
    assert "ends in .svg or .html" in archc("plot", runs, "-o", tmp_path / "x.png").stderr


def test_a_curve_is_drawn_where_its_values_are() -> None:
    plot = Plot("loss", "step", [("a", [(0.0, 1.0), (10.0, 3.0)]), ("b", [(5.0, 2.0)])])
    assert plot._y(3.0) < plot._y(2.0) < plot._y(1.0)
    assert plot._x(5.0) == pytest.approx((plot._x(0.0) + plot._x(10.0)) / 2)
    assert Plot("x", "step", [("flat", [(0.0, 2.0), (1.0, 2.0)]), ("empty", [])]).svg()
    assert len(thinned([(float(i), 1.0) for i in range(5000)], 600)) <= 601
