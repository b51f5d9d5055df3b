"""Every recipe of examples/ reads, and runs at a small scale from a folder that holds what a fresh clone does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archc.train.recipe_load import is_recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(p for p in (ROOT / "examples" / "recipes").glob("*.yaml") if is_recipe(p))
SMALL = ["sequence=32", "batch_tokens=128", "micro_batch=none", "evaluation={every: 2, windows: 4}", "device=cpu"]
TWO_STEPS = ["budget={steps: 2}", "checkpoint.every=1"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda p: p.stem)
def test_it_reads_and_says_how_it_is_run(file: Path) -> None:
    load_recipe(file)
    command = "distill" if load_recipe(file).teachers else "train"
    assert f": archc {command} examples/recipes/{file.name} -o runs/" in file.read_text().splitlines()[0]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples and some text, in which the first recipe has run: others begin from what it made."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for page in ("README.md", "ARCHITECTURE.md"):
        shutil.copy(ROOT / page, folder)
    train(folder, "train", "pretrain", "pretrain", *TWO_STEPS)
    return folder


def train(clone: Path, command: str, recipe: str, run: str, *overrides: str) -> str:
    """What a run of a recipe prints."""
    arguments = [command, f"examples/recipes/{recipe}.yaml", "-o", f"runs/{run}", *SMALL, *overrides]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "archc", *arguments], cwd=clone, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics(clone: Path, run: str) -> list[dict[str, object]]:
    lines = (clone / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [found for line in lines if "event" not in (found := json.loads(line))]


@pytest.mark.slow
def test_pretraining_and_then_fine_tuning_on_chats(clone: Path) -> None:
    shown = train(clone, "train", "chat", "chat", *TWO_STEPS)
    assert "done after 2 steps" in shown
    history = json.loads((clone / "runs/chat/history.json").read_text())
    assert [step["step"] for step in history] == ["train", "train"]


@pytest.mark.slow
def test_distilling_live_and_cached_is_the_same_to_what_is_kept(clone: Path) -> None:
    train(clone, "distill", "distil-live", "live", *TWO_STEPS)
    train(clone, "distill", "distil-cached", "cached", *TWO_STEPS, "teachers.0.cache.top_k=319")
    live, cached = ([m["logit_kd"] for m in metrics(clone, run)] for run in ("live", "cached"))
    assert live == pytest.approx(cached, rel=1e-3)
    train(clone, "distill", "distil-cached", "cached-few", *TWO_STEPS)


@pytest.mark.slow
def test_experts_are_balanced_and_told(clone: Path) -> None:
    train(clone, "train", "moe-mtp", "moe", *TWO_STEPS)
    (_, last) = metrics(clone, "moe")
    assert {"next_token", "mtp", "load_balance", "experts/layers.1.mixer/load"} <= set(last)


@pytest.mark.slow
def test_wsd_goes_on_with_a_larger_budget_and_ends_with_a_decay(clone: Path) -> None:
    warm = "schedule.wsd.warmup=0"
    train(clone, "train", "wsd", "wsd", *TWO_STEPS, warm)
    shown = train(
        clone, "train", "wsd", "wsd", "budget={steps: 4}", "checkpoint.every=1", warm, "schedule.wsd.decay=0.5"
    )
    assert "goes on from step 2" in shown
    assert [m["learning_rate"] for m in metrics(clone, "wsd")][:2] == [0.003, 0.003]
    assert metrics(clone, "wsd")[-1]["learning_rate"] == 0.0
