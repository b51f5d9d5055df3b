"""Sampling over the emitted interface, with a model whose every probability is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from archc.generate import Sampling, choose, generate, sample_tokens, until_stop
from archc.kernels.errors import ArchcError
from archc.train.bytes import ByteTokenizer

PADDED = 272


class Parrot:
    """Says its script after the prompt, token by token, and would rather say padding; counts what it was fed."""

    def __init__(self, script: list[int]) -> None:
        self.script = script

    def new_state(self, batch_size: int, max_context: int) -> list[int]:
        self.room = max_context
        self.prompt_length = 0
        return []

    def prefill(self, tokens: Tensor, state: list[int]) -> Tensor:
        state += tokens[0].tolist()
        self.prompt_length = len(state)
        return self._logits(state)

    def decode(self, tokens: Tensor, state: list[int]) -> Tensor:
        assert tokens.shape == (1,)
        state += tokens.tolist()
        assert len(state) <= self.room
        return self._logits(state)

    def _logits(self, state: list[int]) -> Tensor:
        logits = torch.zeros(1, PADDED)
        logits[0, self.script[(len(state) - self.prompt_length) % len(self.script)]] = 20.0
        logits[0, PADDED - 1] = 50.0
        return logits


def say(text: str, **options: object) -> str:
    sampling = replace(Sampling(temperature=0.0), **options)  # type: ignore[arg-type]
    return "".join(generate(Parrot([*text.encode(), 257]), ByteTokenizer(), "prompt", sampling))


def test_it_says_the_script_to_the_end_token_and_never_padding() -> None:
    assert say("naïve → 猫.") == "naïve → 猫."


def test_max_tokens_is_kept_and_a_cut_character_is_shown_as_such() -> None:
    assert say("abcdef", max_tokens=3) == "abc"
    assert say("猫", max_tokens=2) == "�"


def test_stop_strings_end_the_text_and_are_left_out() -> None:
    assert say("one. two. three", stop=("two",)) == "one. "
    assert say("aab", stop=("ab",)) == "a"
    assert say("one", stop=("one more",)) == "one"


@given(st.lists(st.text("ab", max_size=4)), st.lists(st.text("ab", min_size=1, max_size=3), max_size=2))
def test_stopping_is_cutting_at_the_stop_that_completes_first(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    ends = [(text.index(s) + len(s), text.index(s)) for s in stop if s in text]
    assert "".join(until_stop(pieces, stop)) == (text[: min(ends)[1]] if ends else text)


def sample(seed: int, **options: float) -> list[int]:
    model = Parrot([*b"abcd"])
    sampling = Sampling(seed=seed, max_tokens=40, temperature=10.0, **options)
    return list(sample_tokens(model, [1], sampling, vocab_size=128, end=None))


def test_a_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert len(sample(1)) == 40


def test_choices_follow_the_probabilities_within_top_p() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.15, 0.25])
    generator = torch.Generator().manual_seed(0)
    drawn = [choose(probabilities.log(), Sampling(top_p=0.7), generator) for _ in range(4000)]
    assert set(drawn) == {1, 3}
    assert drawn.count(1) / len(drawn) == pytest.approx(0.5 / 0.75, abs=0.03)


def test_a_tiny_top_p_is_greedy() -> None:
    generator = torch.Generator().manual_seed(0)
    assert {choose(torch.tensor([0.0, 3.0, 2.9]), Sampling(top_p=1e-6), generator) for _ in range(50)} == {1}


def test_an_empty_prompt_begins_a_document() -> None:
    model = Parrot([*b"hi", 257])
    assert "".join(generate(model, ByteTokenizer(), "", Sampling(temperature=0.0))) == "hi"
    assert model.prompt_length == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "`temperature` must be 0 .* got -0.1"),
        ({"top_p": 0.0}, "`top_p` must be above 0"),
        ({"max_tokens": 0}, "`max_tokens` must be at least 1"),
        ({"stop": ("",)}, "must not be empty"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        Sampling(**options)  # type: ignore[arg-type]
