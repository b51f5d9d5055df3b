"""A run from end to end: its folder is a checkpoint, it goes on where it was, and refuses to become another run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console

from archc.commands.train import tell
from archc.hub.checkpoint_dir import load_checkpoint
from archc.kernels.errors import ArchcError, SpecError
from archc.train.recipe_load import load_recipe
from archc.train.record import Summary
from archc.train.run import train
from archc.train.tokenizers import load_tokenizer

torch.set_num_threads(1)

SPEC = """\
archc: 1
name: little
d_model: 16
vocab: 264
blocks:
  "*": {attention: {n_heads: 2, n_kv_heads: 1, head_dim: 8}}
  E: {moe: {experts: 4, top_k: 2, d_ff: 8, activation: relu2, router: sigmoid, correction_bias: true}}
layers: "*E"
"""

RECIPE = """\
archc_recipe: 1
model: {folder}/little.yaml
data:
  train: [{{text: {{files: {folder}/text.txt, part: train, documents_are: lines}}}}]
  held_out: [{{text: {{files: {folder}/text.txt, part: held_out, documents_are: lines}}}}]
sequence: 16
batch_tokens: 64
budget: {{steps: 6}}
losses: [next_token]
evaluation: {{every: 4, windows: 4}}
checkpoint: {{every: 2, write: sync}}
tensorboard: "off"
device: cpu
"""

Run = Callable[..., tuple[Summary, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Trains the recipe above with overrides into `tmp_path/run`; the summary and what was printed."""
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "little.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("".join(f"line {i} of a text that repeats itself\n" for i in range(200)))

    def started(*overrides: str, overwrite: bool = False) -> tuple[Summary, str]:
        shown = io.StringIO()
        recipe = load_recipe(RECIPE.format(folder=tmp_path), overrides, file="recipe")
        console = Console(file=shown, width=200)
        return train(recipe, tmp_path / "run", console=console, overwrite=overwrite), shown.getvalue()

    return started


def metrics(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_folder_of_a_run_is_a_checkpoint(run: Run, tmp_path: Path) -> None:
    summary, shown = run("export.every=4")
    folder = tmp_path / "run"
    found = load_checkpoint(folder)
    assert found.graph.name == "little"
    assert [step["step"] for step in found.history] == ["train"]
    assert found.history[0]["outcome"]["held_out_loss"] == summary.held_out_loss
    assert load_tokenizer(folder).vocab_size == 259
    assert load_checkpoint(folder / "exports" / "step-4").history[0]["steps"] == 4
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-4", "step-6"]
    assert [m["step"] for m in metrics(folder) if "event" not in m] == [1, 2, 3, 4, 5, 6]
    assert [m["step"] for m in metrics(folder) if "event" in m] == [0, 4, 6]
    assert "held-out loss" in shown and "bits a byte" in shown
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.export.every == 4


def test_training_goes_on_from_the_checkpoint_that_a_run_made(run: Run, tmp_path: Path) -> None:
    first, _ = run()
    (tmp_path / "run").rename(tmp_path / "first")
    second, _ = run(f"model={tmp_path / 'first'}")
    assert second.first_held_out_loss == pytest.approx(first.held_out_loss, rel=1e-6)
    assert [step["step"] for step in load_checkpoint(tmp_path / "run").history] == ["train", "train"]


def test_a_longer_budget_continues_a_run_as_if_it_had_been_so_from_the_start(run: Run, tmp_path: Path) -> None:
    flat = "schedule={wsd: {warmup: 0, decay: 0}}"
    run(flat, "budget.steps=10")
    whole = weights(tmp_path / "run")
    told = [m for m in metrics(tmp_path / "run") if "event" not in m]
    (tmp_path / "run").rename(tmp_path / "whole")
    run(flat)
    summary, shown = run(flat, "budget.steps=10")
    assert "goes on from step 6" in shown and "budget.steps: 6 -> 10" in shown
    assert summary.steps == 10
    assert weights(tmp_path / "run") == whole
    timeless = ("elapsed_s", "tokens_per_s", "memory_bytes")
    again = [m for m in metrics(tmp_path / "run") if "event" not in m]
    assert [{k: v for k, v in m.items() if k not in timeless} for m in again] == [
        {k: v for k, v in m.items() if k not in timeless} for m in told
    ]


def test_a_finished_run_has_nothing_to_do(run: Run, tmp_path: Path) -> None:
    run()
    before = weights(tmp_path / "run")
    summary, shown = run()
    assert summary.steps == 6 and "is done: its budget is spent at step 6" in shown
    assert weights(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("steps: 5", r"argument:1:16: `steps`: the run in .*run has done 6 steps already: got 5"),
        ("tokens: 300", r"argument:1:17: `tokens`: the run in .*run has done 384 tokens already: got 300"),
        ("minutes: 0.00001", r"argument:1:18: `minutes`: the run in .*run has done .* minutes already: got 1e-05"),
    ],
)
def test_a_budget_below_what_is_done_is_refused_and_nothing_changed(
    run: Run, tmp_path: Path, budget: str, message: str
) -> None:
    run()
    before = (tmp_path / "run/recipe.yaml").read_text(), weights(tmp_path / "run")
    with pytest.raises(SpecError, match=message):
        run(f"budget={{{budget}}}")
    assert ((tmp_path / "run/recipe.yaml").read_text(), weights(tmp_path / "run")) == before


def test_a_budget_of_just_what_is_done_ends_the_run(run: Run) -> None:
    run()
    summary, shown = run("budget={tokens: 330}")  # the sixth step went beyond it
    assert summary.steps == 6 and "is done: its budget is spent at step 6" in shown


def test_a_changed_recipe_is_refused_with_what_changed(run: Run, tmp_path: Path) -> None:
    run()
    before = weights(tmp_path / "run")
    with pytest.raises(ArchcError, match="cannot go on with this one") as error:
        run("optimizer.adamw.lr=0.5", "losses.next_token.weight=2", "budget.steps=9")
    lines = str(error.value).splitlines()
    assert "  optimizer.adamw.lr: 0.0003 -> 0.5" in lines
    assert "  losses.0.next_token.weight: 1 -> 2" in lines
    assert not any("budget.steps: " in line for line in lines)
    assert weights(tmp_path / "run") == before


@pytest.mark.parametrize("what", ["model", "data"])
def test_a_model_or_data_that_is_another_is_refused(run: Run, tmp_path: Path, what: str) -> None:
    run()
    if what == "model":
        (tmp_path / "little.yaml").write_text(SPEC.replace("d_ff: 8", "d_ff: 12"))
    else:
        (tmp_path / "text.txt").write_text("".join(f"another text, line {i}\n" for i in range(200)))
    with pytest.raises(ArchcError, match=f"what the run began with is no longer the same.*\n  {what}: "):
        run("budget.steps=9")


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(run: Run, tmp_path: Path) -> None:
    run()
    before = weights(tmp_path / "run")
    next((tmp_path / "run/checkpoints/step-6").glob("*.distcp")).unlink()
    summary, shown = run()
    assert "step-6 is damaged: __0_0.distcp is missing" in shown and "goes on from step 4" in shown
    assert summary.steps == 6
    assert weights(tmp_path / "run") == before


def test_overwrite_begins_anew_and_other_folders_are_left_alone(run: Run, tmp_path: Path) -> None:
    run()
    _, shown = run("optimizer.adamw.lr=0.5", overwrite=True)
    assert "goes on" not in shown
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ArchcError, match=r"exists and is not empty; .* --overwrite"):
        run()


def test_a_run_that_another_process_writes_is_refused(run: Run, tmp_path: Path) -> None:
    import fcntl

    run()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArchcError, match="another process is training into it"):
            run("budget.steps=9")


def test_parts_that_do_not_fit_are_refused_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "little.yaml").write_text(SPEC.replace("vocab: 264", "vocab: 100"))
    with pytest.raises(ArchcError, match="a vocabulary of at least 259: little has 100"):
        run()
    (tmp_path / "little.yaml").write_text(SPEC)
    with pytest.raises(ArchcError, match="`mtp` trains multi-token prediction, which little does not have"):
        run("losses=[next_token, mtp]")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("overwrite", "how"), [(False, ""), (True, ", without --overwrite")])
def test_a_run_that_a_signal_has_ended_says_how_to_go_on(
    overwrite: bool, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Summary(4, 64, 1.0, None, None, None, interrupted=True, signal=15)
    with pytest.raises(typer.Exit) as left:
        tell(summary, Path("run"), overwrite=overwrite)
    assert left.value.exit_code == 143
    assert capsys.readouterr().out == (
        "interrupted after 4 steps, 64 tokens; saved run\n"
        + f"to go on from step 4, give the same command again{how}\n"
    )


def test_tensorboard_has_what_the_metrics_have(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("tensorboard=on")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = [m["loss"] for m in metrics(tmp_path / "run") if "event" not in m]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(told, rel=1e-5)
    assert [e.step for e in events.Scalars("held_out/loss")] == [0, 4, 6]
