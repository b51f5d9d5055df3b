"""`archc train`, `archc generate` and `archc demo` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TINY = ["--batch", "2", "--seq", "32"]


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
    outcomes = [json.loads((folder / "train.json").read_text())["outcome"] for folder in runs]
    assert outcomes[1]["first_held_out_loss"] == pytest.approx(outcomes[0]["held_out_loss"], rel=1e-5)
    assert [step["step"] for step in json.loads((tmp_path / "longer" / "history.json").read_text())] == ["train"] * 2
    assert "held-out loss" in shown


def test_the_compiled_checkpoint_generates_the_same_from_a_seed(checkpoint: Path, tmp_path: Path) -> None:
    package = tmp_path / "model"
    succeeds("compile", checkpoint, "-o", package)
    first, second, other = (
        succeeds("generate", package, "Return", "--max-tokens", 20, "--seed", seed) for seed in (1, 1, 2)
    )
    assert first.startswith("Return")
    assert first == second != other


def test_an_output_that_exists_is_refused_before_any_training(checkpoint: Path) -> None:
    run = archc("train", "tiny-hybrid", "-o", checkpoint, "--minutes", 60)
    assert run.returncode == 2
    assert "exists and is not empty" in run.stderr


def test_a_vocabulary_too_small_for_bytes_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text('archc: 1\nname: small\nextends: tiny-hybrid\nchanges: {vocab: 100}\n')
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
