"""Storages by URL and workers side by side: the same trials, found dead and tried again, pruned; and what fails."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from archc.kernels.errors import ArchcError, SearchError
from archc.search.budgets import Objective
from archc.search.figures import Meter, Score
from archc.search.ladder import Candidate, Report
from archc.search.optimise import counted, optimise
from archc.search.samplers import PRUNERS, Proposals, make_pruner, make_sampler
from archc.search.study import abandoned, begin, open_storage, open_study
from archc.searching.file import SearchFile, load_search
from archc.searching.run import run_search
from archc.searching.workers import ALIVE, Worker

SEARCH = """\
archc_search: 1
name: small
base: tiny-hybrid
space:
  d_model: {from: 64, to: 128, step: 16}
  moe.d_ff: {from: 64, to: 192, step: 32}
  moe.activation: [relu2, silu]
budgets: ["params.total <= 1.6M"]
objectives: [maximize params.total, "minimize flops.decode at {context: 1k}"]
sampler: tpe
trials: 6
seed: 3
"""


def search_file(folder: Path, more: str = "") -> SearchFile:
    file = folder / "search.yaml"
    file.write_text(SEARCH + more)
    return load_search(file)


def told(storage: Any) -> list[Any]:
    import optuna

    trials = optuna.load_study(study_name="small", storage=storage).trials
    return [(t.number, t.params, t.values, t.constraints, t.state, t.user_attrs["point"]) for t in trials]


def test_a_database_holds_what_a_journal_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    run_search(search_file(tmp_path), tmp_path / "a")
    found = run_search(search_file(tmp_path, f"storage: {url}\n"), tmp_path / "b")
    assert told(open_storage(url)) == told(open_storage(tmp_path / "a/study.log")) and len(found.candidates) > 1
    assert not (tmp_path / "b/study.log").exists()
    run_search(search_file(tmp_path, f"storage: {url}\n"), tmp_path / "c")  # another folder goes on with the study
    assert len(told(open_storage(url))) == 6
    with pytest.raises(SearchError, match="the storage holds another study `small`"):
        run_search(replace(search_file(tmp_path, f"storage: {url}\n"), seed=9), tmp_path / "d")


@pytest.mark.nightly
def test_postgresql_holds_what_a_journal_holds(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pgserver")
    run_search(search_file(tmp_path), tmp_path / "a")
    with pgserver.get_server(tmp_path / "postgres") as server:
        url = server.get_uri()
        run_search(search_file(tmp_path, f'storage: "{url}"\n'), tmp_path / "b")
        assert told(open_storage(url)) == told(open_storage(tmp_path / "a/study.log"))
        more = search_file(tmp_path, f'storage: "{url}"\nworkers: 2\n')
        run_search(replace(more, trials=20), tmp_path / "b")
        assert len(told(open_storage(url))) >= 20


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("study.db", r"search.yaml:13:10: `storage`: expected a URL such as sqlite:///study.db .*, got `study.db`"),
        ("nosuch://x/y", "unknown kind of database `nosuch`: expected sqlite or postgresql"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened as a storage of studies"),
    ],
)
def test_storages_that_there_are_not(tmp_path: Path, storage: str, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        run_search(search_file(tmp_path, f"storage: {storage}\n"), tmp_path / "run")


@pytest.mark.slow
def test_workers_run_trials_side_by_side(tmp_path: Path) -> None:
    search = search_file(tmp_path, "workers: 3\n")
    run_search(replace(search, trials=24, sampler="random", options={}), tmp_path / "run")
    import optuna

    study = optuna.load_study(study_name="small", storage=open_storage(tmp_path / "run/study.log"))
    assert sum(1 for _ in counted(study)) >= 24
    points = [str(t.params) for t in study.trials]
    assert len(set(points[:6])) > 3, "workers of one seed propose their own"
    assert all(t.state.is_finished() for t in study.trials)


# -- life and death ----------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Any]:
    yield open_study(open_storage(tmp_path / "study.log"), "small", [Objective(Score("s"), "minimize")], {"all": "x"})


def test_a_worker_of_another_machine_is_dead_when_it_is_silent(study: Any) -> None:
    with Worker(study) as worker:
        assert worker.alive(worker.name) and worker.others == 0 and worker.seed(5) == 5
        host = socket.gethostname()
        assert not worker.alive(f"{host} 999999 1") and not worker.alive("")
        study.set_user_attr(f"{ALIVE}elsewhere 1 1", time.time())
        assert worker.alive("elsewhere 1 1") and worker.others == 1 and worker.seed(5) != 5
        study.set_user_attr(f"{ALIVE}elsewhere 1 1", time.time() - 1000)
        assert not worker.alive("elsewhere 1 1") and not worker.alive("unheard 1 1")


def test_what_a_dead_worker_left_is_found_once(study: Any, tmp_path: Path) -> None:
    space = search_file(tmp_path).space
    begin(study, space, {**space.base, "d_model": 96}, {}, "dead")
    begin(study, space, space.base, {}, "lives")
    assert abandoned(study, lambda name: name == "lives") == [{**space.base, "d_model": 96}]
    assert abandoned(study, lambda name: name == "lives") == []


# -- pruning -----------------------------------------------------------------------------------------------------------


@dataclass
class Steps:
    """Scores by d_model, told five times on the way; how far each candidate came."""

    name: str = "steps"
    identity: str = "1"
    seen: dict[int, int] = field(default_factory=dict)

    def score(self, candidate: Candidate, report: Report) -> float:
        size = candidate.point["d_model"]
        for step in range(5):
            self.seen[size] = step
            report(step, float(size - step))
        return float(size)


@dataclass
class Nothing:
    def get(self, key: str) -> float | None:
        return None

    def put(self, key: str, score: float) -> None:
        pass


def test_a_pruner_stops_what_is_worse_than_the_median(tmp_path: Path) -> None:
    search, aims = search_file(tmp_path), [Objective(Score("steps"), "minimize")]
    pruner = make_pruner("median", {"n_startup_trials": 3})
    study = open_study(open_storage(tmp_path / "study.log"), "small", aims, {"all": "x"}, pruner)
    meter, scorer = Meter(search.space), Steps()
    sampler = make_sampler("random", {}, search.space, 0)
    optimise(
        study,
        search.space,
        search.budgets,
        aims,
        {"steps": scorer},
        Proposals(sampler, search.space, search.budgets, meter, study.directions),
        trials=20,
        worker="here",
        alive=lambda name: True,
        make=lambda point: Candidate("", point, str(sorted(point.items())), ""),
        cache=Nothing(),
        meter=meter,
    )
    states = [t.state.name for t in study.trials]
    assert len(states) == 20 and states.count("PRUNED") > 2 and set(states) == {"COMPLETE", "PRUNED"}
    pruned = [t for t in study.trials if t.state.name == "PRUNED"]
    assert all(t.intermediate_values and "violations" in t.user_attrs for t in pruned)
    assert min(t.user_attrs["point"]["d_model"] for t in pruned) > min(t.values[0] for t in study.trials if t.values)


def test_every_pruner_can_be_made_and_options_are_checked() -> None:
    given = {"threshold": {"upper": 3.0}, "patient": {"patience": 2}}
    for name in PRUNERS:
        assert make_pruner(name, given.get(name, {})) is not None
    with pytest.raises(ArchcError, match=r"unknown option of pruner `median` `nope`: known are .*n_startup_trials"):
        make_pruner("median", {"nope": 1})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("pruner: medain\n", r"search.yaml:13:9: `pruner`: expected one of median, .*did you mean `median`"),
        (
            "pruner: median\n",
            "`pruner` stops trainings by their score, the only objective: no rung trains: `distil` does",
        ),
        ("workers: 0\n", "`workers`: .*greater than 0"),
        ("trials: none\n", "trials"),
    ],
)
def test_fields_that_there_are_not(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        search_file(tmp_path, more)
