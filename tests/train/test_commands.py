"""`archc train`, `archc generate` and `archc demo` as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TINY = ["sequence=32", "batch_tokens=64", "tensorboard=off"]


def archc(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archc", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def succeeds(*arguments: object) -> str:
    run = archc(*arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "checkpoint"
    succeeds("train", "tiny-hybrid", "-o", folder, "--steps", 3, *TINY)
    return folder


def test_a_run_by_steps_gives_the_same_checkpoint_again(checkpoint: Path, tmp_path: Path) -> None:
    succeeds("train", "tiny-hybrid", "-o", tmp_path / "again", "--steps", 3, *TINY)
    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (checkpoint / weights).read_bytes()


def test_training_goes_on_from_a_checkpoint_and_keeps_its_history(checkpoint: Path, tmp_path: Path) -> None:
    shown = succeeds("train", checkpoint, "-o", tmp_path / "longer", "--steps", 2, *TINY)
    runs = (checkpoint, tmp_path / "longer")
    histories = [json.loads((folder / "history.json").read_text()) for folder in runs]
    outcomes = [history[-1]["outcome"] for history in histories]
    assert outcomes[1]["first_held_out_loss"] == pytest.approx(outcomes[0]["held_out_loss"], rel=1e-5)
    assert [step["step"] for step in histories[1]] == ["train"] * 2
    assert "held-out loss" in shown


def test_the_compiled_checkpoint_generates_the_same_from_a_seed(checkpoint: Path, tmp_path: Path) -> None:
    package = tmp_path / "model"
    succeeds("compile", checkpoint, "-o", package)
    first, second, other = (
        succeeds("generate", package, "Return", "--max-tokens", 20, "--seed", seed) for seed in (1, 1, 2)
    )
    assert first.startswith("Return")
    assert first == second != other


def test_a_run_of_another_recipe_is_refused_before_any_training(checkpoint: Path) -> None:
    run = archc("train", "tiny-hybrid", "-o", checkpoint, "--minutes", 60)
    assert run.returncode == 2
    assert "the run began with another recipe" in run.stderr
    assert "  sequence: 32 -> 128" in run.stderr


def test_the_same_command_goes_on_and_a_longer_budget_trains_on(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "run")
    assert "done after 3 steps" in succeeds("train", "tiny-hybrid", "-o", tmp_path / "run", "--steps", 3, *TINY)
    shown = succeeds("train", "tiny-hybrid", "-o", tmp_path / "run", "--steps", 5, *TINY)
    assert "goes on from step 3" in shown and "done after 5 steps" in shown


def test_ctrl_c_saves_and_exits_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = ["train", "tiny-hybrid", "-o", str(tmp_path / "run"), "--steps", "100000", *TINY, "evaluation.windows=2"]
    run = subprocess.Popen([sys.executable, "-m", "archc", *command], stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") > 3) and time.monotonic() < until:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    shown, _ = run.communicate(timeout=120)
    assert run.returncode == 130
    ended, how = shown.splitlines()[-2:]
    assert ended.startswith("interrupted after ") and ended.endswith(f"saved {tmp_path / 'run'}")
    steps = ended.split()[2]
    assert how == f"to go on from step {steps}, give the same command again"
    command[5] = str(int(steps) + 1)
    assert f"goes on from step {steps}" in succeeds(*command)


def test_every_mistake_of_a_recipe_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "archc_recipe: 1\nmodel: tiny-hybrid\ndata: {train: [stdlb]}\nbudget: {steps: 1}\nlosses: [next_tokn]\n"
    )
    run = archc("train", tmp_path / "recipe.yaml", "-o", tmp_path / "out", "optimizer.adamw.lr=high")
    assert run.returncode == 2
    assert "recipe.yaml:3:16: unknown source `stdlb`: did you mean `stdlib`?" in run.stderr
    assert "recipe.yaml:5:10: unknown loss `next_tokn`: did you mean `next_token`?" in run.stderr
    assert "argument:1:20: `lr`: expected a number, got `high`" in run.stderr


def test_a_vocabulary_too_small_for_bytes_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text("archc: 1\nname: small\nextends: tiny-hybrid\nchanges: {vocab: 100}\n")
    run = archc("train", spec, "-o", tmp_path / "out", "--steps", 1)
    assert run.returncode == 2
    assert "a vocabulary of at least 259" in run.stderr
    assert not (tmp_path / "out").exists()


def test_the_demo_goes_all_the_way(tmp_path: Path) -> None:
    shown = succeeds("demo", "-o", tmp_path / "demo", "--minutes", 0.05)
    assert "$ archc estimate nemotron-nano-9b-v2" in shown
    assert "held-out loss" in shown
    assert "\nReturn the" in shown
    assert "Next, try" in shown
    succeeds("demo", "-o", tmp_path / "demo", "--minutes", 0.01)
