"""The training loop on a tiny model: it learns, repeats itself from a seed, keeps to its budget and saves."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from archc.kernels.errors import ArchcError
from archc.train.bytes import ByteTokenizer
from archc.train.corpus import Corpus, Document
from archc.train.data import TokenData, packed, random_windows, spread_windows, tokenized
from archc.train.loop import Record, Summary, TrainOptions, optimizer, token_losses, train
from archc.train.report import jsonl_log

VOCAB = 17


class Bigram(nn.Module):
    """The emitted interface over one table: logits of the next token from this one, and one MTP step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, VOCAB, bias=False)
        self.ahead = nn.Linear(16, 16)

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.norm(self.embedding(tokens))

    def logits(self, h: Tensor) -> Tensor:
        return self.head(h)

    def mtp(self, h: Tensor, tokens: Tensor) -> list[Tensor]:
        return [self.ahead(h)]


class Clock:
    """Time that moves by `tick` at every look."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def data() -> TokenData:
    """A stream in which each token tells the next: t, 3t + 1, ... modulo VOCAB."""
    tokens = [1]
    for _ in range(2000):
        tokens.append((3 * tokens[-1] + 1) % VOCAB)
    stream = torch.tensor(tokens, dtype=torch.int32)
    return TokenData(stream, stream[:200])


STEPS = TrainOptions(seconds=None, steps=60, batch=4, length_tokens=32, learning_rate=0.03, eval_every_s=1e9)


def test_it_learns_and_reports(data: TokenData) -> None:
    records: list[Record] = []
    saved: list[Summary] = []
    summary = train(Bigram(), data, STEPS, mtp=True, report=[records.append], save=saved.append)

    assert summary.held_out_loss < 0.5 * summary.first_held_out_loss
    assert saved == [summary]
    assert (summary.steps, summary.tokens, summary.interrupted) == (60, 60 * 4 * 32, False)
    steps = [r for r in records if r.loss is not None]
    assert [r.step for r in steps] == list(range(1, 61))
    assert all(r.mtp_loss is not None for r in steps)
    assert [r.step for r in records if r.held_out_loss is not None] == [0, 60]
    assert records[-1].progress == 1.0


def test_a_run_by_steps_repeats_itself(data: TokenData) -> None:
    first, second, other = Bigram(), Bigram(), Bigram()
    train(first, data, STEPS)
    train(second, data, STEPS)
    train(other, data, replace(STEPS, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_run_by_seconds_keeps_to_its_budget_and_measures_on_the_way(data: TokenData) -> None:
    records: list[Record] = []
    options = replace(STEPS, seconds=100.0, steps=None, eval_every_s=30.0)
    summary = train(Bigram(), data, options, report=[records.append], clock=Clock(0.5))
    assert 100.0 <= summary.elapsed_s < 110.0
    assert len([r for r in records if r.held_out_loss is not None]) == 5
    rates = [r.learning_rate for r in records if r.loss is not None]
    assert max(rates) == pytest.approx(options.learning_rate, rel=1e-2)
    assert rates[-1] < 0.2 * options.learning_rate


def test_sigint_ends_the_run_and_saves(data: TokenData) -> None:
    saved: list[Summary] = []

    def interrupt(record: Record) -> None:
        if record.step == 5 and record.loss is not None:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    summary = train(Bigram(), data, STEPS, report=[interrupt], save=saved.append)
    assert summary.interrupted
    assert summary.steps == 5
    assert saved == [summary]
    assert signal.getsignal(signal.SIGINT) is before


def test_losses_are_those_of_the_tokens_ahead(data: TokenData) -> None:
    """The oracle: a plain loop over positions."""
    model, tokens = Bigram(), data.train[:24].long().view(2, 12)
    loss, mtp_loss = token_losses(model, tokens, mtp=True)
    h = model.hidden(tokens)
    logs = {1: model.logits(h).log_softmax(-1), 2: model.logits(model.ahead(h)).log_softmax(-1)}
    expected = {
        k: -sum(logs[k][b, t, tokens[b, t + k]].item() for b in range(2) for t in range(12 - k)) / (2 * (12 - k))
        for k in (1, 2)
    }
    assert loss.item() == pytest.approx(expected[1], rel=1e-5)
    assert mtp_loss is not None
    assert mtp_loss.item() == pytest.approx(expected[2], rel=1e-5)


def test_vectors_are_not_decayed() -> None:
    model = Bigram()
    decayed, free = optimizer(model, STEPS).param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_a_loss_that_is_not_finite_is_an_error(data: TokenData) -> None:
    model = Bigram()
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    with pytest.raises(ArchcError, match=r"the loss is nan at step 0: try a learning rate below 0.03"):
        train(model, data, STEPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5, "seconds": 5.0}, "budget of seconds or of steps"),
        ({"steps": None, "seconds": None}, "budget of seconds or of steps"),
        ({"seconds": None, "steps": 0}, "`steps` must be positive: got 0"),
        ({"batch": 0}, "`batch` must be positive: got 0"),
        ({"learning_rate": -1.0}, "`learning_rate` must be positive"),
    ],
)
def test_options_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        replace(STEPS, **change)  # type: ignore[arg-type]


def test_a_window_longer_than_the_text_is_an_error(data: TokenData) -> None:
    with pytest.raises(ArchcError, match=r"a window of 4096 tokens does not fit a text of 200: use a shorter --seq"):
        train(Bigram(), data, replace(STEPS, length_tokens=4096))


def test_packing_puts_documents_between_their_marks() -> None:
    tokenizer = ByteTokenizer()
    stream = packed([Document("a", "hi"), Document("b", "!")], tokenizer)
    assert stream.tolist() == [256, 104, 105, 257, 256, 33, 257]
    both = tokenized(Corpus((Document("a", "hi"),), (Document("b", "!"),)), tokenizer)
    assert (len(both.train), len(both.held_out)) == (4, 3)


@pytest.mark.parametrize("windows", [
    lambda stream: random_windows(stream, batch=50, length=7, generator=torch.Generator().manual_seed(1)),
    lambda stream: spread_windows(stream, count=5, length=7),
])  # fmt: skip
def test_windows_are_runs_of_the_stream(windows: Callable[[Tensor], Tensor]) -> None:
    found = windows(torch.arange(60, dtype=torch.int32))
    assert found.dtype == torch.int64
    assert torch.equal(found - found[:, :1], torch.arange(7).expand_as(found))
    assert int(found.max()) <= 59


def test_spread_windows_do_not_overlap() -> None:
    found = spread_windows(torch.arange(60), count=100, length=7)
    assert len(found) == 8
    assert len(set(found.flatten().tolist())) == found.numel()


def test_the_log_is_one_json_object_a_line(data: TokenData, tmp_path: Path) -> None:
    with jsonl_log(tmp_path / "new" / "log.jsonl") as write:
        train(Bigram(), data, replace(STEPS, steps=2), report=[write])
    lines = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text().splitlines()]
    assert ["held_out_loss" in line for line in lines] == [True, False, False, True]
    assert all({"step", "elapsed_s", "tokens", "learning_rate"} <= set(line) for line in lines)
