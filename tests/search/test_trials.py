"""Trials: samplers by name, the same twice, kills and several workers, scorers that fail, the ladder."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import archc
from archc.hub.checkpoint import write_tensors
from archc.hub.checkpoint_dir import new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, SearchError
from archc.search.budgets import Objective
from archc.search.figures import Meter, Score
from archc.search.ladder import Candidate, Report, Rung, climb, key
from archc.search.optimise import optimise
from archc.search.samplers import SAMPLERS, Proposals, make_sampler
from archc.search.study import open_storage, open_study
from archc.searching.file import SearchFile, load_search
from archc.searching.pick import picked, recipe_text
from archc.searching.run import run_search
from archc.train.bytes import ByteTokenizer

FIGURES_ONLY = """\
archc_search: 1
name: small
base: tiny-hybrid
space:
  d_model: {from: 64, to: 128, step: 16}
  moe.d_ff: {from: 64, to: 192, step: 32}
  layers.mamba2: {from: 2, to: 4}
ranking: [2, 5]
budgets: ["params.total <= 900k"]
objectives: [maximize params.total, "minimize flops.decode at {context: 1k}"]
sampler: %s
trials: 6
seed: 3
"""


def search_file(folder: Path, sampler: str) -> SearchFile:
    file = folder / "search.yaml"
    file.write_text(FIGURES_ONLY % sampler)
    return load_search(file)


def trials_of(folder: Path, name: str = "small") -> list[Any]:
    import optuna

    return optuna.load_study(study_name=name, storage=open_storage(folder / "study.log")).trials


def told(folder: Path) -> list[Any]:
    return [(t.number, t.params, t.values, t.constraints, t.state) for t in trials_of(folder)]


@dataclass
class Memory:
    known: dict[str, float] = field(default_factory=dict)

    def get(self, key: str) -> float | None:
        return self.known.get(key)

    def put(self, key: str, score: float) -> None:
        self.known[key] = score


@dataclass
class Counting:
    """Scores by d_model; fails as told."""

    name: str = "count"
    identity: str = "1"
    calls: int = 0
    fails: dict[int, Any] = field(default_factory=dict)

    def score(self, candidate: Candidate, report: Report) -> float:
        self.calls += 1
        size = candidate.point["d_model"]
        if isinstance(self.fails.get(size), Exception):
            raise self.fails[size]
        return float(self.fails.get(size, size))


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "cma-es"])
def test_every_sampler_proposes_what_fits(tmp_path: Path, name: str) -> None:
    found = run_search(search_file(tmp_path, name), tmp_path / "run")
    complete = [t for t in trials_of(tmp_path / "run") if t.state.name == "COMPLETE"]
    assert len(complete) == 6 and all(v <= 0 for t in complete for v in t.constraints.values())
    assert {tuple(t.user_attrs["point"].values()) for t in complete} == {
        tuple(c.point.values()) for c in found.candidates
    }


def test_the_same_seed_gives_the_same_trials_and_another_others(tmp_path: Path) -> None:
    for name in "ab":
        run_search(search_file(tmp_path, "tpe"), tmp_path / name)
    run_search(replace(search_file(tmp_path, "tpe"), seed=4), tmp_path / "c")
    assert told(tmp_path / "a") == told(tmp_path / "b") != told(tmp_path / "c")


def test_a_run_goes_on_to_more_trials(tmp_path: Path) -> None:
    search = search_file(tmp_path, "nsga2")
    run_search(replace(search, trials=3), tmp_path / "run")
    before = told(tmp_path / "run")
    run_search(search, tmp_path / "run")
    assert told(tmp_path / "run")[:3] == before and len(told(tmp_path / "run")) == 6
    run_search(search, tmp_path / "run")
    assert len(told(tmp_path / "run")) == 6


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    search = search_file(tmp_path, "random")
    run_search(search, tmp_path / "run")
    with pytest.raises(SearchError, match="holds another study"):
        run_search(replace(search, seed=9), tmp_path / "run")


def test_options_and_names_of_samplers(tmp_path: Path) -> None:
    assert load_search_options(tmp_path, "{tpe: {n_startup_trials: 2}}") == {"n_startup_trials": 2}
    with pytest.raises(ArchcError, match=r"search.yaml:11:10: `sampler`: expected one of sweep, .*tpe"):
        search_file(tmp_path, "tpee")
    with pytest.raises(ArchcError, match=r":11:10: unknown option of sampler `random` `nope`: known are seed"):
        search_file(tmp_path, "{random: {nope: 1}}")
    with pytest.raises(ArchcError, match=r":11:10: `cma-es` takes one objective, and there are 2"):
        search_file(tmp_path, "cma-es")


def load_search_options(folder: Path, sampler: str) -> dict[str, Any]:
    return dict(search_file(folder, sampler).options)


# -- scorers and the ladder --------------------------------------------------------------------------------------------


def optimised(tmp_path: Path, scorer: Counting, trials: int, cache: Memory) -> list[Any]:
    search = search_file(tmp_path, "random")
    study = open_study(
        open_storage(tmp_path / "study.log"), "small", [Objective(Score("count"), "minimize")], {"all": "x"}
    )
    meter = Meter(search.space)
    proposals = Proposals(
        make_sampler("random", {}, search.space, 0), search.space, search.budgets, meter, study.directions
    )
    optimise(
        study,
        search.space,
        search.budgets,
        [Objective(Score("count"), "minimize")],
        {"count": scorer},
        proposals,
        trials=trials,
        worker="here",
        alive=lambda name: True,
        make=lambda point: Candidate("", point, str(sorted(point.items())), ""),
        cache=cache,
        meter=meter,
    )
    return list(study.trials)


def test_a_scorer_that_fails_fails_its_trial_with_the_cause(tmp_path: Path) -> None:
    fails = {64: ArchcError("it broke"), 80: math.nan}
    found = optimised(tmp_path, Counting(fails=fails), 30, Memory())
    assert len(found) == 30
    causes = {t.user_attrs["error"] for t in found if t.state.name == "FAIL"}
    assert causes == {"it broke", "the score is no number (NaN)"}
    assert all(t.values == [t.user_attrs["point"]["d_model"]] for t in found if t.state.name == "COMPLETE")


def test_nothing_is_scored_twice(tmp_path: Path) -> None:
    scorer, cache = Counting(), Memory()
    found = optimised(tmp_path, scorer, 30, cache)
    assert scorer.calls == len({str(t.params) for t in found}) == len(cache.known) < 30


def test_the_ladder_lets_the_best_go_on() -> None:
    first, second = Counting("first"), Counting("second", fails={3: math.nan})
    candidates = [Candidate(f"c{d}", {"d_model": d}, str(d), "") for d in (5, 1, 3, 2, 4)]
    found = climb(candidates, [Rung(first, 3), Rung(second, 1)], Memory())
    assert [c.name for c in found] == ["c5", "c1", "c3", "c2", "c4"]
    assert [sorted(c.scores) for c in found] == [
        ["first"],
        ["first", "second"],
        ["first"],
        ["first", "second"],
        ["first"],
    ]
    assert found[2].failed == {"second": "the score is no number (NaN)"}
    assert key(first, candidates[0]) != key(replace(first, identity="2"), candidates[0])


# -- processes ---------------------------------------------------------------------------------------------------------

RUN = """
import sys, time
from pathlib import Path
from archc.search import study as s
from archc.searching import trials
from archc.searching.file import load_search
from archc.searching.run import run_search
if len(sys.argv) > 3:
    begin = s.begin
    def slowly(*a):
        made = begin(*a)
        if made.number == 2:
            print("waits", flush=True)
            time.sleep(600)
        return made
    import archc.search.optimise as o
    o.begin = slowly
run_search(load_search(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder / "search.yaml"), str(folder / "run"), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_worker_loses_its_running_trial_only_and_that_is_tried_again(tmp_path: Path) -> None:
    search_file(tmp_path, "random")
    killed = start(tmp_path, "slowly")
    assert killed.stdout is not None and killed.stdout.readline() == "waits\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (running,) = (t for t in trials_of(tmp_path / "run") if t.state.name == "RUNNING")
    run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    found = trials_of(tmp_path / "run")
    assert [t.state.name for t in found].count("COMPLETE") == 6
    assert found[running.number].state.name == "FAIL"
    assert found[running.number + 1].params == running.params  # first of all it is tried again


@pytest.mark.slow
def test_several_workers_share_a_study(tmp_path: Path) -> None:
    search_file(tmp_path, "random")
    (tmp_path / "search.yaml").write_text((tmp_path / "search.yaml").read_text().replace("trials: 6", "trials: 30"))
    workers = [start(tmp_path) for _ in range(2)]
    for one in workers:
        assert one.wait(timeout=300) == 0, one.stderr and one.stderr.read()
    found = trials_of(tmp_path / "run")
    complete = [t for t in found if t.state.name == "COMPLETE"]
    assert 30 <= len(complete) <= 31
    assert sorted(t.number for t in found) == list(range(len(found)))


# -- end to end --------------------------------------------------------------------------------------------------------

LADDER = """\
archc_search: 1
name: real
base: ckpt
space:
  d_model: {from: 64, to: 128, step: 32}
  moe.d_ff: {from: 64, to: 192, step: 64}
importance: {estimators: activation, tokens: 512, sequence: 64}
budgets: ["params.total <= 1.2M"]
objectives: [minimize zero_shot]
sampler: random
trials: 4
rungs:
  - zero_shot: {tokens: 512, sequence: 64, keep: 2}
  - distil: {recipe: distil.yaml, overrides: ["teachers=[{model: '{base}'}]"], keep: 1}
  - evaluate: {text: [held.txt], length: 64}
"""
RECIPE = """\
archc_recipe: 1
model: tiny-hybrid
tokenizer: bytes
data: {train: [{stdlib: {part: train}}], held_out: [{stdlib: {part: held_out}}]}
sequence: 64
batch_tokens: 128
budget: {steps: 2}
losses: [logit_kd]
teachers: [{model: x}]
evaluation: {every: 2, windows: 2}
tensorboard: "off"
device: cpu
"""


@pytest.mark.slow
def test_a_ladder_with_weights_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    graph = archc.load("tiny-hybrid")
    with new_checkpoint(tmp_path / "ckpt", graph, {"step": "made"}) as staged:
        ByteTokenizer().save(staged)
        write_tensors(staged, [Outgoing.of(k, w) for k, w in init_weights(graph, seed=0).items()])
    for name, text in (("search.yaml", LADDER), ("distil.yaml", RECIPE), ("held.txt", "Some text to be held. " * 20)):
        (tmp_path / name).write_text(text)
    found = run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    scores = [dict(c.scores) for c in found.candidates]
    assert sum("distil" in s for s in scores) == 2 and sum("evaluate" in s for s in scores) == 1
    best = picked(tmp_path / "run", "best")
    assert "evaluate" in best.found["scores"]
    (tmp_path / "recipe.yaml").write_text(recipe_text(best, "activation"))
    stored = json.loads((tmp_path / "run/results.json").read_text())
    assert stored["best"] == best.found["name"]
    run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")  # everything is known
    again = json.loads((tmp_path / "run/results.json").read_text())
    assert [c["scores"] for c in again["candidates"]] == [c["scores"] for c in stored["candidates"]]
