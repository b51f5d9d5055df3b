"""Rungs that train: candidates of a base without weights from scratch, and trainings that a pruner stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archc.kernels.errors import ArchcError
from archc.searching.file import load_search
from archc.searching.pick import picked
from archc.searching.run import run_search

SEARCH = """\
archc_search: 1
name: new
base: tiny-hybrid
space:
  d_model: {from: 64, to: 160, step: 32}
  layers.attention: {from: 1, to: 3}
  moe.activation: [relu2, silu]
  place.attention: {from: 0, to: 8}
ranking: [3]
budgets: ["params.total <= 2.5M"]
objectives: [minimize distil]
sampler: {random: {}}
trials: 6
rungs:
  - distil: {recipe: train.yaml, keep: 1}
"""
RECIPE = """\
archc_recipe: 1
model: tiny-hybrid
tokenizer: bytes
data: {train: [{stdlib: {part: train}}], held_out: [{stdlib: {part: held_out}}]}
sequence: 32
batch_tokens: 64
budget: {steps: 3}
losses: [next_token]
evaluation: {every: 1, windows: 2}
checkpoint: {write: sync}
tensorboard: "off"
device: cpu
"""


@pytest.mark.slow
def test_new_models_are_trained_and_bad_ones_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "search.yaml").write_text(SEARCH + "pruner: {median: {n_startup_trials: 2}}\n")
    (tmp_path / "train.yaml").write_text(RECIPE)
    found = run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    import optuna

    from archc.search.study import open_storage

    trials = optuna.load_study(study_name="new", storage=open_storage(tmp_path / "run/study.log")).trials
    states = [t.state.name for t in trials]
    assert len(states) == 6 and set(states) == {"COMPLETE", "PRUNED"}
    for trial in trials:
        assert 0 < len(trial.intermediate_values) <= 2, "measured after each step, the last is the score"
    best = picked(tmp_path / "run", "best")
    (candidate,) = (c for c in found.candidates if c.name == best.found["name"])
    assert candidate.values[0] == min(t.values[0] for t in trials if t.values) == candidate.scores["distil"]
    runs = [p for p in (tmp_path / "run/trained").iterdir() if (p / "metrics.jsonl").is_file()]
    assert len(runs) == 1 + len({str(t.user_attrs["point"]) for t in trials}), "each once, and the base"
    steps = [json.loads((p / "metrics.jsonl").read_text().splitlines()[-1])["step"] for p in runs]
    assert min(steps) < 3 == max(steps)


@pytest.mark.parametrize(
    ("rung", "message"),
    [
        (
            "zero_shot: {tokens: 512}",
            r"search.yaml:15:5: `zero_shot` runs a model: .* folder with weights, got `tiny-hybrid`",
        ),
        ("evaluate: {length: 64}", "`evaluate` runs a model"),
        ("distil: {recipe: none.yaml}", r"none.yaml.*no such file|none.yaml: .*"),
        ("distil: {recipe: bad.yaml}", r"bad.yaml:1:1: missing field `losses`"),
        ("distil: {recipe: train.yaml, overrides: [stepz=3]}", "stepz"),
        ("distill: {recipe: train.yaml}", "unknown rung `distill`: did you mean `distil`"),
    ],
)
def test_rungs_that_cannot_be(tmp_path: Path, rung: str, message: str) -> None:
    (tmp_path / "train.yaml").write_text(RECIPE)
    (tmp_path / "bad.yaml").write_text(RECIPE.replace("losses: [next_token]\n", ""))
    text = SEARCH.replace("minimize distil", "maximize params.total").replace(
        "distil: {recipe: train.yaml, keep: 1}", rung
    )
    (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(ArchcError, match=message):
        load_search(tmp_path / "search.yaml")


@pytest.mark.nightly
def test_the_dashboard_opens_the_study(tmp_path: Path) -> None:
    """A real optuna-dashboard serves what a search has written."""
    import socket
    import subprocess
    import sys
    import time
    import urllib.error
    import urllib.request

    pytest.importorskip("optuna_dashboard")
    text = SEARCH.replace("minimize distil", "maximize params.total").replace("sampler: {random: {}}", "sampler: tpe")
    (tmp_path / "search.yaml").write_text(text[: text.index("rungs:")])
    run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "optuna_dashboard._cli", str(tmp_path / "run/study.log"), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def asked(path: str) -> dict[str, object]:
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                    return dict(json.load(answer))
            except urllib.error.URLError:
                time.sleep(0.3)
        raise AssertionError(f"optuna-dashboard does not answer: {server.poll()}")

    try:
        (study,) = asked("/api/studies")["study_summaries"]  # type: ignore[misc]
        trials = asked(f"/api/studies/{study['study_id']}?after=0")["trials"]
    finally:
        server.terminate()
    assert study["study_name"] == "new" and len(trials) == 6  # type: ignore[arg-type]
    attrs = {a["key"] for t in trials for a in t["user_attrs"]}  # type: ignore[attr-defined]
    assert {"point", "violations"} <= attrs, "feasibility is to be seen there"
