"""The engine: steps that do not depend on how they are cut, runs that resume exactly, guards, budgets, precision."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from archc.kernels.errors import ArchcError
from archc.train.guard import Watch
from archc.train.recipe import Guard, Spike
from archc.train.record import Record
from tests.train.engine_kit import LENGTH, recipe_of, same, trainer_of, weights_of


class Killed(Exception):
    """What stands for a kill in one process."""


class Clock:
    """Time that moves by `tick` at every look."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def steps_of(records: list[Record]) -> list[Record]:
    return [r for r in records if not r.event]


def test_it_learns_and_reports() -> None:
    records: list[Record] = []
    trainer = trainer_of(recipe_of("budget.steps=40", "evaluation.every=1000"), report=[records.append])
    summary = trainer.run()
    assert summary.held_out_loss is not None and summary.first_held_out_loss is not None
    assert summary.held_out_loss < 0.5 * summary.first_held_out_loss
    assert summary.bits_per_byte is not None and 0 < summary.bits_per_byte < summary.held_out_loss / 0.69
    assert (summary.steps, summary.tokens, summary.interrupted) == (40, 40 * 4 * LENGTH, False)
    assert [r.step for r in steps_of(records)] == list(range(1, 41))
    assert {"loss", "next_token", "mtp", "mtp/step_1", "gradient_norm", "learning_rate", "tokens_per_s"} <= set(
        records[1].figures
    )
    assert [r.step for r in records if r.event == "evaluation"] == [0, 40]
    assert records[-1].progress == 1.0
    first = records[1].figures
    assert first["loss"] == pytest.approx(first["next_token"] + 0.3 * first["mtp"], rel=1e-12)
    assert sum(first["experts/layers.1.mixer/load"]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("size", [1, 3])
def test_a_step_does_not_depend_on_micro_batches(size: int) -> None:
    """Samples carry uneven weights, so that a mean of means would differ."""
    whole, cut = trainer_of(recipe_of()), trainer_of(recipe_of(f"micro_batch={size}"))
    batch = whole.task.stream.batch(range(4))
    for trainer in (whole, cut):
        trainer.task.model.train()
        trainer._gradients(batch)
    for (name, a), (_, b) in zip(whole.task.model.named_parameters(), cut.task.model.named_parameters(), strict=True):
        assert a.grad is not None and b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)


def test_a_run_repeats_itself_and_draws_samples_in_order() -> None:
    one, other = trainer_of(recipe_of()), trainer_of(recipe_of())
    one.run()
    other.run()
    assert same(weights_of(one), weights_of(other))
    assert one.task.stream.asked == list(range(8 * 4))  # type: ignore[attr-defined]


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("at", [2, 4, 7])
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, write: str, at: int) -> None:
    recipe = recipe_of(f"checkpoint.write={write}", "guard.spike.factor=100")
    told: list[Record] = []
    whole = trainer_of(recipe, tmp_path / "whole", report=[told.append])
    summary = whole.run()

    def kill(record: Record) -> None:
        if record.step == at and not record.event:
            raise Killed

    with pytest.raises(Killed):
        trainer_of(recipe, tmp_path / "cut", report=[kill]).run()
    torch.manual_seed(99)
    again: list[Record] = []
    resumed = trainer_of(recipe, tmp_path / "cut", report=[again.append])
    assert resumed.checkpoints is not None
    resumed.checkpoints.finish()
    step, problems = resumed.checkpoints.latest()
    assert (step, problems) == ((at // 3) * 3 or None, [])
    if step is not None:
        resumed.restore(step)
    ended = resumed.run()

    assert same(weights_of(whole), weights_of(resumed))
    assert (ended.steps, ended.first_held_out_loss, ended.held_out_loss) == (
        summary.steps,
        summary.first_held_out_loss,
        summary.held_out_loss,
    )
    losses = {r.step: r.figures["loss"] for r in steps_of(told)}
    assert all(losses[r.step] == r.figures["loss"] for r in steps_of(again))
    assert resumed.checkpoints.steps() == [8, 6]


def test_moments_and_biases_resume_too(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(), tmp_path)
    trainer.run()
    other = trainer_of(recipe_of(), tmp_path)
    other.restore(8)
    before, after = trainer._tensors(), other._tensors()
    assert same(before, after)
    assert any(name.endswith("correction_bias") and value.any() for name, value in after.items())
    assert sum(value.numel() for name, value in after.items() if name.endswith(".exp_avg_sq")) == sum(
        p.numel() for p in trainer.task.model.parameters()
    )
    assert other.at == trainer.at


def test_sigint_in_the_last_step_interrupts_nothing(tmp_path: Path) -> None:
    def interrupt(record: Record) -> None:
        if record.step == 8 and not record.event:
            os.kill(os.getpid(), signal.SIGINT)

    summary = trainer_of(recipe_of(), tmp_path, report=[interrupt]).run()
    assert (summary.steps, summary.interrupted, summary.signal) == (8, False, 0)


def test_sigint_ends_the_run_after_its_step_and_saves(tmp_path: Path) -> None:
    def interrupt(record: Record) -> None:
        if record.step == 4 and not record.event:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = trainer_of(recipe_of(), tmp_path, report=[interrupt])
    summary = trainer.run()
    assert (summary.steps, summary.interrupted, summary.signal) == (4, True, signal.SIGINT)
    assert trainer.checkpoints is not None and trainer.checkpoints.steps() == [4, 3]
    resumed = trainer_of(recipe_of(), tmp_path)
    resumed.restore(4)
    resumed.run()
    whole = trainer_of(recipe_of())
    whole.run()
    assert same(weights_of(whole), weights_of(resumed))


# -- guards ------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_its_batch_is_kept(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trainer = trainer_of(recipe_of(), tmp_path, bad=[17])
    with pytest.raises(ArchcError, match=r"the loss is nan at step 4 on samples 16 to 19, saved as .*step-4-sample-16"):
        trainer.run()
    (file,) = (tmp_path / "bad").iterdir()
    assert load_file(file)["index"].tolist() == [16, 17, 18, 19]
    assert trainer.checkpoints is not None and trainer.checkpoints.steps() == [3]


def test_a_run_rolls_back_and_goes_round_the_bad_batch(tmp_path: Path) -> None:
    records: list[Record] = []
    recipe = recipe_of('guard={"nan": rollback}')
    trainer = trainer_of(recipe, tmp_path, bad=[17], report=[records.append])
    summary = trainer.run()
    assert summary.steps == 8
    (back,) = (r for r in records if r.event == "rollback")
    assert (back.step, back.said.endswith("back to step 3")) == (3, True)
    assert trainer.at.skipped == [16]
    assert trainer.at.next_sample == 9 * 4
    assert all(value.isfinite().all() for value in weights_of(trainer).values())
    resumed = trainer_of(recipe, tmp_path, bad=[17])
    resumed.restore(6)
    assert (resumed.at.skipped, resumed.watch.rollbacks) == ([16], 1)
    resumed.run()
    assert same(weights_of(trainer), weights_of(resumed))


def test_rolling_back_has_an_end_and_needs_a_checkpoint(tmp_path: Path) -> None:
    every = range(16, 1000)
    trainer = trainer_of(recipe_of('guard={"nan": rollback, rollbacks: 2}'), tmp_path / "a", bad=every)
    with pytest.raises(ArchcError, match="rolled back 2 times already"):
        trainer.run()
    with pytest.raises(ArchcError, match="no checkpoint yet to roll back to"):
        trainer_of(recipe_of('guard={"nan": rollback}'), tmp_path / "b", bad=[5]).run()


def test_spikes_are_losses_far_above_the_window() -> None:
    watch = Watch(Guard(spike=Spike(factor=2.0, window=3, action="stop")))
    for loss in (9.0, 1.0, 1.2):
        assert watch.trouble(loss, 1.0) is None
        watch.passed(loss)
    assert watch.trouble(2.3, 1.0) is None
    found = watch.trouble(2.5, 1.0)
    assert found is not None and found.action == "stop"
    assert found.what == "the loss is 2.5, above 2 times 1.2 of 3 steps"
    assert watch.trouble(1.0, float("inf")) is not None


# -- budgets, schedules, precision -------------------------------------------------------------------------------------


def test_budgets_of_tokens_and_of_minutes() -> None:
    assert trainer_of(recipe_of("budget={tokens: 200}")).run().steps == 5
    records: list[Record] = []
    trainer = trainer_of(recipe_of("budget={minutes: 1}"), report=[records.append], clock=Clock(0.5))
    assert 60.0 <= trainer.run().elapsed_s < 66.0
    rates = [r.figures["learning_rate"] for r in steps_of(records)]
    assert max(rates) == pytest.approx(0.02, rel=0.05)
    assert rates[-1] < 0.2 * 0.02


def test_the_last_step_has_the_final_rate_and_the_first_not_zero() -> None:
    records: list[Record] = []
    trainer_of(recipe_of("schedule.cosine.warmup=0.25"), report=[records.append]).run()
    rates = [r.figures["learning_rate"] for r in steps_of(records)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.002)


def test_bf16_trains_fp32_weights() -> None:
    trainer = trainer_of(recipe_of("precision=bf16", "budget.steps=40"))
    summary = trainer.run()
    assert {p.dtype for p in trainer.task.model.parameters()} == {torch.float32}
    assert all(isinstance(p, torch.nn.Parameter) for p in trainer.task.model.parameters())
    assert summary.held_out_loss is not None and summary.first_held_out_loss is not None
    assert summary.held_out_loss < 0.7 * summary.first_held_out_loss


def test_vectors_are_not_decayed_and_nothing_is_left_out() -> None:
    trainer = trainer_of(recipe_of())
    decayed, free = trainer.optimizer.param_groups
    assert {p.ndim >= 2 for p in decayed["params"]} == {True}
    assert {p.ndim < 2 for p in free["params"]} == {True}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(trainer.task.model.parameters()))


def test_exports_happen_when_the_recipe_says() -> None:
    seen: list[int] = []
    trainer_of(recipe_of("export.every=3"), export=seen.append).run()
    assert seen == [3, 6]
