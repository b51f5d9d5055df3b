"""The folder of a search: whose it is, what is left in it when things go wrong, and locks of the dead."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from archc.kernels.errors import ArchcError, SearchError
from archc.search.sweep import sweep
from archc.searching.file import load_search
from archc.searching.pick import picked, spec_text
from archc.searching.run import run_search
from archc.searching.start import run_search as run_file
from archc.spec import load_spec
from archc.viz.search_scene import told

SEARCH = """\
archc_search: 1
name: small
base: tiny-hybrid
space:
  d_model: {from: 64, to: 128, step: 16}
  moe.experts: [4, 6, 8]
  mamba2.n_groups: [1, 2]
budgets: ["params.total <= %s"]
objectives: [maximize params.total, "minimize flops.decode at {context: 1k}"]
"""


def search_file(folder: Path, limit: str = "2M", more: str = "") -> Path:
    (folder / "search.yaml").write_text(SEARCH % limit + more)
    return folder / "search.yaml"


def test_every_candidate_is_a_spec(tmp_path: Path) -> None:
    found = run_search(load_search(search_file(tmp_path)), tmp_path / "run")
    assert {c.point["moe.experts"] for c in found.candidates} == {4, 6, 8}
    for candidate in found.candidates:
        text = spec_text(picked(tmp_path / "run", candidate.name))
        assert load_spec(text, file="x").graph().cost(context=64).params.total == candidate.values[0]


def test_nothing_is_written_where_nothing_fits(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="no candidate is within the budgets"):
        run_file(search_file(tmp_path, "1k"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert run_file(search_file(tmp_path), tmp_path / "run").candidates


def test_a_search_of_another_name_is_not_written_over(tmp_path: Path) -> None:
    run_file(search_file(tmp_path), tmp_path / "run")
    before = (tmp_path / "run/results.json").read_bytes()
    file = search_file(tmp_path)
    file.write_text(file.read_text().replace("name: small", "name: other"))
    with pytest.raises(SearchError, match=r"run: holds the search `small`: choose another folder for `other`"):
        run_file(file, tmp_path / "run")
    assert (tmp_path / "run/results.json").read_bytes() == before


@pytest.mark.parametrize("name", ["'two words'", "small  # a comment", '"quoted"'])
def test_a_name_is_read_as_yaml_has_it(tmp_path: Path, name: str) -> None:
    file = search_file(tmp_path)
    file.write_text(file.read_text().replace("name: small", f"name: {name}"))
    run_file(file, tmp_path / "run")
    assert run_file(file, tmp_path / "run").candidates, "it goes on"


def test_a_search_in_flow_style_is_not_written_over_either(tmp_path: Path) -> None:
    flow = (
        "{archc_search: 1, name: flow, base: tiny-moe, space: {d_model: [64, 96]}, objectives: [minimize params.total]}"
    )
    (tmp_path / "flow.yaml").write_text(flow)
    run_file(tmp_path / "flow.yaml", tmp_path / "run")
    with pytest.raises(SearchError, match=r"holds the search `flow`: choose another folder for `small`"):
        run_file(search_file(tmp_path), tmp_path / "run")


def test_what_differs_is_told(tmp_path: Path) -> None:
    run_file(search_file(tmp_path), tmp_path / "run")
    with pytest.raises(SearchError, match=r"another study `small`, of other budgets, seed: choose"):
        run_file(search_file(tmp_path, "1M", "seed: 3\n"), tmp_path / "run")


def test_the_same_file_by_another_path_is_the_same_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = search_file(tmp_path, more="rungs: [{capacity: {keep: 2}}]\n")
    run_file(file, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert run_file(Path("search.yaml"), Path("run")).candidates


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="is no folder: a search has one of its own"):
        run_file(search_file(tmp_path), search_file(tmp_path))


def test_a_lock_that_a_killed_process_held_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = search_file(tmp_path, more="sampler: random\ntrials: 3\n")
    run_file(file, Path("run"))
    target = str((tmp_path / "run/study.log").resolve())
    os.symlink(target, "run/study.log.lock")  # as Optuna does it, who dies before it is taken away
    search = load_search(file)
    run_search(replace(search, trials=5), Path("run"))
    assert not os.path.lexists("run/study.log.lock")


def test_the_ends_and_the_front_s_neighbours_are_measured(tmp_path: Path) -> None:
    wide = "name: wide\n" + SEARCH.partition("name: small\n")[2]
    text = "archc_search: 1\n" + re.sub(
        r"  moe.experts.*\n  mamba2.*\n", "  layers.*.moe.d_ff: {from: 16, to: 192, step: 16, each: layer}\n", wide
    )
    (tmp_path / "search.yaml").write_text(text % "10M" + "candidates: 300\n")
    search = load_search(tmp_path / "search.yaml")
    found = sweep(search.space, search.budgets, search.objectives, candidates=300, seed=0)
    sizes = found.found.values[0]
    ends = [search.space.build({c.name: c.values[i] for c in search.space.choices}) for i in (0, -1)]
    assert [sizes.min(), sizes.max()] == [g.cost(context=64).params.total for g in ends]
    assert 0 < found.refined <= 300 and len(sizes) > 300 and found.found.feasible.all()


def test_failures_are_told(tmp_path: Path) -> None:
    found = run_search(
        load_search(search_file(tmp_path, more="candidates: 100\nkeep: 20\nrungs: [{capacity: {keep: 2}}]\n")),
        tmp_path / "run",
    )
    bad = replace(found.candidates[0], failed={"zero_shot": "it broke\nbadly"}, scores={})
    from archc.searching.run import failed_rungs

    assert list(failed_rungs([bad, *found.candidates])) == [
        "1 candidates could not be scored by `zero_shot`, 1 of them: it broke"
    ]
    stored = {**found.to_json(), "notes": ["3 of 4 trials failed, 3 of them: it broke"]}
    assert "3 of 4 trials failed, 3 of them: it broke" in list(told(stored))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("trials: 5\n", r"search.yaml:10:1: `trials` is of a sampler of Optuna's, and this is a sweep"),
        ("sampler: random\ncandidates: 5\n", r"`candidates` is of a sweep"),
        (
            "rungs: [{capacity: {of: {params.actve: 1}}}]\n",
            r"10:9: unknown figure `params.actve`: did you mean `params.active`",
        ),
    ],
)
def test_what_means_nothing_is_told(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        load_search(search_file(tmp_path, more=more))
