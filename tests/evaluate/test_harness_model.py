"""Answers to the harness: likelihoods from forward passes of their own, and greedy text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archc.evaluate.harness_model import Answers
from archc.evaluate.metric import Setting
from archc.evaluate.subject import Subject
from archc.generate import Sampling, generate
from archc.kernels.errors import UnsupportedError

PAIRS = [
    ("The sky is", " blue"),
    ("The sky ", "is"),
    ("", "none"),
    ("a\n", " b"),
    ("x" * 50, "yz"),
    ("The sky is", " red"),
]


@torch.no_grad()
def slow(subject: Subject, tokens: list[int], count: int) -> tuple[float, bool]:
    """The log-likelihood of the last tokens, one forward pass."""
    logs = subject.model(torch.tensor([tokens[:-1]]))[0].log_softmax(-1)[-count:]
    targets = torch.tensor(tokens[-count:])
    return float(logs.gather(-1, targets[:, None]).sum()), bool((logs.argmax(-1) == targets).all())


def test_likelihoods_are_those_of_the_continuation(small: Subject) -> None:
    answers = Answers(Setting(small, batch_tokens=30), length=20).likelihoods(PAIRS)
    for (context, continuation), (found, greedy) in zip(PAIRS, answers, strict=True):
        spaces = len(context) - len(context.rstrip())  # they begin the continuation
        tokens = [256, *(context + continuation).encode()][-21:]
        expected = slow(small, tokens, len(continuation) + spaces)
        assert (found, greedy) == (pytest.approx(expected[0], rel=1e-9), expected[1])


def test_the_greedy_continuation_is_seen_as_such(small: Subject) -> None:
    with torch.no_grad():
        best = int(small.model(torch.tensor([[256, *b"abc"]]))[0, -1, :128].argmax())
    pairs = [("abc", chr(t)) for t in (best, (best + 1) % 128)]
    found = Answers(Setting(small), length=20).likelihoods(pairs)
    assert found[0][0] > found[1][0] and not found[1][1]


def test_rolling_scores_every_token_once(small: Subject) -> None:
    text = "a text that is longer than a window"
    (found,) = Answers(Setting(small), length=8).rolling([text])
    tokens = [256, *text.encode()]
    expected, done = 0.0, 1
    for end in [*range(9, len(tokens), 8), len(tokens)]:
        expected += slow(small, tokens[max(end - 9, 0) : end], end - done)[0]
        done = end
    assert found == pytest.approx(expected, rel=1e-9)


def test_answers_are_greedy_and_stop(small: Subject) -> None:
    answers = Answers(Setting(small), length=64)
    (said,) = answers.continued([("Return", {"until": [], "max_gen_toks": 12})])
    assert said == "".join(generate(small.model, small.tokenizer, "Return", Sampling(temperature=0.0, max_tokens=12)))
    (cut,) = answers.continued([("Return", {"until": said[3:5] or "never", "max_gen_toks": 12})])
    assert cut == said[: said.index(said[3:5])] if len(said) > 4 else cut == said


@pytest.mark.parametrize("options", [{"max_gen_toks": 9}, {}])
def test_an_answer_must_leave_room(small: Subject, options: dict[str, int]) -> None:
    with pytest.raises(UnsupportedError, match="raise `length` from 9"):
        Answers(Setting(small), length=9).continued([("a", options)])


def test_a_continuation_must_fit(small: Subject) -> None:
    with pytest.raises(UnsupportedError, match="a continuation has 5 tokens: raise `length` from 4"):
        Answers(Setting(small), length=4).likelihoods([("a", "bcdef")])


def test_without_a_first_token_an_empty_context_is_the_end_of_another(small: Subject) -> None:
    tokenizer = replace(small.tokenizer, begin=None)  # type: ignore[type-var]
    (found,) = Answers(Setting(replace(small, tokenizer=tokenizer)), length=20).likelihoods([("", "abc")])
    assert found[0] == pytest.approx(slow(small, [257, *b"abc"], 3)[0], rel=1e-9)
