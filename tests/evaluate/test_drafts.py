"""Drafts: the acceptance that is reported is that of a loop that really drafts, with states."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from archc.evaluate.drafts import Drafts, continued, walked
from archc.evaluate.metric import Setting
from archc.evaluate.subject import Subject
from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.bytes import ByteTokenizer
from tests.evaluate.models import TEXTS, VOCAB, Told, told, values

KNOWN = 259
SIZE = Drafts(prompts=4, prompt=12, tokens=16)


def best(logits: Tensor) -> int:
    return int(logits[..., :KNOWN].argmax())


@torch.no_grad()
def drafted(subject: Subject, prompt: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Speculative decoding, one prompt, with the emitted states: drafts of each step offered, and accepted."""
    model, steps = subject.model, subject.mtp_steps
    said = continued(subject, prompt[None], count)[0].tolist()
    offered, accepted = [0] * steps, [0] * steps
    at = len(prompt) - 1  # the last token that is sure
    while at + steps < len(said):
        state = model.new_state(1, len(said) + steps)
        h = model.hidden(torch.tensor([said[: at + 1]]), state=state)
        known = [best(model.logits(h)[0, -1])]
        for k in range(1, steps + 1):
            tokens = torch.tensor([[*said[: at + 1], *known]])
            known.append(best(model.logits(model.mtp(h, tokens, state=state)[k - 1])[0, -1]))
        right = 0
        after = torch.tensor([[*said[: at + 1], *known]])
        truth = model.logits(model.hidden(after))[0]
        while right < steps and known[right + 1] == best(truth[at + 1 + right]):
            right += 1
        for k in range(min(right + 1, steps)):
            offered[k] += 1
        for k in range(right):
            accepted[k] += 1
        at += right + 1
    return offered, accepted


def test_it_is_what_a_loop_that_drafts_accepts(small: Subject) -> None:
    found = values(small, SIZE)
    totals = [drafted(small, p, SIZE.tokens) for p in SIZE.chosen(Setting(small, TEXTS))]
    offered, accepted = (torch.tensor([t[i] for t in totals]).sum(0) for i in (0, 1))
    assert found["passes"] == offered[0]
    assert found["acceptance.1"] == pytest.approx(accepted[0] / offered[0])
    assert found["acceptance.2"] == pytest.approx(accepted[1] / max(int(offered[1]), 1))
    assert found["tokens_per_pass"] == pytest.approx(1 + accepted.sum() / offered[0])


class Counting(Told):
    """Counts on by one; its MTP steps do so too, or are out by one."""

    def __init__(self, right: Sequence[bool]) -> None:
        super().__init__(lambda row: one_hot((row + 1) % 256, VOCAB) * 9.0)
        self.mtp = Steps(right)

    def new_state(self, batch_size: int, max_context: int) -> None:
        return None

    def prefill(self, tokens: Tensor, state: None) -> Tensor:
        return self.hidden(tokens)[:, -1]

    def decode(self, tokens: Tensor, state: None) -> Tensor:
        return self.hidden(tokens[:, None])[:, -1]


class Steps:
    """An MTP module of as many steps as are told to be right or not."""

    def __init__(self, right: Sequence[bool]) -> None:
        self.right, self.steps = right, len(right)

    def __call__(self, h: Tensor, tokens: Tensor) -> list[Tensor]:
        return [one_hot((tokens + k + 1 + (not ok)) % 256, VOCAB) * 9.0 for k, ok in enumerate(self.right, start=1)]


@pytest.mark.parametrize(
    ("right", "acceptance", "per_pass"),
    [((True, True), (1.0, 1.0), 3.0), ((True, False), (1.0, 0.0), 2.0), ((False, True), (0.0, 0.0), 1.0)],
)
def test_drafts_that_are_known(right: tuple[bool, bool], acceptance: tuple[float, float], per_pass: float) -> None:
    found = values(Subject("counting", Counting(right), ByteTokenizer(), VOCAB), SIZE)
    assert (found["acceptance.1"], found["acceptance.2"]) == acceptance
    assert found["tokens_per_pass"] == pytest.approx(per_pass)


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=12))
def test_walking_accepts_what_is_right_in_a_row(right: list[list[bool]]) -> None:
    offered, accepted = walked(torch.tensor([right]))
    assert 1 <= offered[0] <= len(right) and offered[1] == accepted[0] >= accepted[1]


def test_a_model_without_mtp_has_no_drafts() -> None:
    with pytest.raises(UnsupportedError, match="told has no multi-token prediction"):
        values(told(lambda row: row), Drafts())


def test_texts_that_are_too_short_are_refused(small: Subject) -> None:
    with pytest.raises(ArchcError, match="no text has 4000 tokens"):
        values(small, Drafts(prompt=4000))
