"""Columns of a search whose figures are alike: what tells them apart, limits from both sides; what is said of few."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archc.hardware import load_hardware
from archc.ir.workload import Workload
from archc.search.budgets import Objective
from archc.search.figures import Figure, Setting
from archc.searching.file import load_search
from archc.searching.folder import read_results
from archc.searching.live import Live, TrialWatch
from archc.searching.run import run_search
from archc.viz.search_page import search_page
from archc.viz.search_picture import search_picture
from archc.viz.search_scene import search_scene, written
from archc.viz.search_terminal import print_search
from tests.front.screens import Screen, lines

SEARCH = """\
archc_search: 1
name: alike
base: tiny-hybrid
space: {d_model: {from: 64, to: 128, step: 8}, moe.d_ff: {from: 64, to: 192, step: 16}}
budgets: ["params.total <= 2M", "params.total >= 400k", "memory.kv <= 9MiB", "memory.kv >= 1B"]
objectives:
  - "minimize latency.decode at {hardware: a10g, context: 4k, batch: 1}"
  - "minimize latency.decode at {hardware: h100, context: 4k, batch: 1}"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("alike")
    (folder / "search.yaml").write_text(SEARCH)
    run_search(load_search(folder / "search.yaml"), folder / "run")
    return dict(read_results(folder / "run"))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


def test_columns_are_told_apart_by_what_differs_alone(results: dict[str, Any]) -> None:
    scene = search_scene(results, "run")
    labels = [c["label"] for c in scene["columns"]]
    assert labels == ["latency.decode a10g", "latency.decode h100", "params.total", "memory.kv", "d_model", "moe.d_ff"]
    for drawn in (search_page(results, "run"), search_picture(results, "run")):
        assert "latency.decode h100" in drawn.replace("<wbr>", "")


def test_a_figure_that_is_limited_from_both_sides_is_one_column(results: dict[str, Any]) -> None:
    scene = search_scene(results, "run")
    column = scene["columns"][2]
    assert column["limits"] == [["<=", 2e6], [">=", 4e5]]
    assert column["text"] == "params.total <= 2M; params.total >= 400k"
    assert all(len(c["row"]) == 6 == len(scene["cloud"]["columns"]) for c in scene["candidates"])
    assert len(scene["budgets"]) == 4 and len(scene["importance"]) == 4


def test_what_decides_is_said_of_enough_points_and_clear_shares(screen: Screen, results: dict[str, Any]) -> None:
    def decides(of: dict[str, Any]) -> list[str]:
        return [line for line in lines(screen.shows(print_search, of, "run")) if line.startswith("what decides")]

    assert len(decides(results)) == 2
    few = copy.deepcopy(results)
    cloud = few["report"]["cloud"]
    cloud["ranks"] = [[rank % 2 for rank in column] for column in cloud["ranks"]]  # four points
    assert decides(few) == []
    noise = copy.deepcopy(results)
    noise["report"]["importance"] = [[chance * 1.5 for chance in noise["report"]["by_chance"]] for _ in range(6)]
    assert decides(noise) == []


def test_the_hint_at_the_end_picks_the_best_of_rungs(screen: Screen, results: dict[str, Any]) -> None:
    climbed = {**results, "rungs": [{"name": "capacity", "keep": 1}]}
    for of, which in ((results, "knee"), (climbed, "best")):
        assert f"archc best run --pick {which} -o best.yaml" in lines(screen.shows(print_search, of, "run"))


def test_a_model_that_does_not_fit_has_no_throughput() -> None:
    assert written("tokens/s", 0.0) == "-" and written("tokens/s", 0.25) == "0.2 tokens/s"


def test_live_figures_carry_their_units() -> None:
    at = Setting(Workload.of(context=1024), hardware=load_hardware("a10g"))
    objectives = [
        Objective(Figure("params.total", at), "maximize"),
        Objective(Figure("latency.decode", at), "minimize"),
    ]
    live = Live("tpe", 4)
    TrialWatch(live, objectives)(SimpleNamespace(number=3, values=[2.1659e6, 0.00215], user_attrs={"violations": {}}))
    assert [line.partition(": ")[2] for line in live.best] == ["2.17M (trial 3)", "2.15 ms (trial 3)"]
