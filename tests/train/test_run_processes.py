"""Runs of several processes under torchrun: the losses of one process, and checkpoints that one goes on from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """\
archc_recipe: 1
model: tiny-hybrid
data: {train: [stdlib], held_out: [{stdlib: {part: held_out}}]}
sequence: 32
batch_tokens: 128
micro_batch: 1
budget: {steps: 4}
schedule: {wsd: {warmup: 0, decay: 0}}
optimizer: {adamw: {lr: 1e-3}}
losses: [next_token, mtp, load_balance]
precision: fp64
evaluation: {every: 2, windows: 4}
checkpoint: {every: 2}
device: cpu
tensorboard: "off"
"""
UNTOLD = ("elapsed_s", "tokens_per_s", "memory_bytes")


def run(folder: Path, name: str, *overrides: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    (folder / "r.yaml").write_text(RECIPE)
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [*start, "archc", "train", "r.yaml", "-o", name, *overrides]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=180)


def metrics(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(a: list[dict[str, object]], b: list[dict[str, object]]) -> None:
    assert [(m["step"], m.get("event")) for m in a] == [(m["step"], m.get("event")) for m in b]
    for one, other in zip(a, b, strict=True):
        for name in one.keys() - {*UNTOLD, "event"}:
            assert one[name] == pytest.approx(other[name], rel=1e-9, abs=1e-12), (one["step"], name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What one process tells of the run."""
    folder = tmp_path_factory.mktemp("alone")
    done = run(folder, "run")
    assert done.returncode == 0, done.stderr
    return metrics(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["dp", "tp", "ep"])
def test_two_processes_train_as_one_does_and_one_goes_on(
    axis: str, alone: list[dict[str, object]], tmp_path: Path
) -> None:
    first = run(tmp_path, "run", f"parallel.{axis}=2", "budget.steps=2", processes=2)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("done after 2 steps") == 1
    second = run(tmp_path, "run")
    assert second.returncode == 0, second.stderr
    assert "goes on from step 2" in second.stdout
    assert_same(metrics(tmp_path / "run"), alone)


@pytest.mark.slow
def test_another_number_of_processes_is_refused_before_anything_starts(tmp_path: Path) -> None:
    found = run(tmp_path, "run", "parallel.dp=2", "parallel.tp=2")
    assert found.returncode == 2
    assert "asks for dp 2 x tp 2 x ep 1 = 4 processes, and there are 1: torchrun --nproc-per-node 4" in found.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_data_that_is_refused_ends_every_process(tmp_path: Path) -> None:
    """The first process packs data while the others wait: they must not wait for ever."""
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    found = run(tmp_path, "run", "data.train=[{jsonl: {files: [bad.jsonl]}}]", "parallel.dp=2", processes=2)
    assert found.returncode
    assert "bad.jsonl:2: broken JSON" in found.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_four_processes_in_bf16_train(tmp_path: Path) -> None:
    found = run(tmp_path, "run", "parallel={dp: 2, tp: 2}", "precision=bf16", processes=4)
    assert found.returncode == 0, found.stderr
    losses = [m["held_out/loss"] for m in metrics(tmp_path / "run") if m.get("event") == "evaluation"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
