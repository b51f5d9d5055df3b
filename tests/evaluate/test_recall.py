"""Recall: what prompts hold, a model that remembers everything, and one that forgets the keys."""

from __future__ import annotations

import re
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from archc.evaluate.recall import VALUES, Recall, prompts
from archc.evaluate.subject import Subject
from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.bytes import ByteTokenizer
from tests.evaluate.models import VOCAB, told, values


@settings(deadline=None)
@given(
    st.integers(1, 26).flatmap(lambda p: st.tuples(st.just(p), st.integers(1, p))), st.integers(0, 99), st.integers()
)
def test_a_prompt_tells_waits_and_asks(size: tuple[int, int], distance: int, seed: int) -> None:
    pairs, queries = size
    (prompt,) = prompts(pairs=pairs, queries=queries, distance=distance, count=1, seed=seed)
    told_pairs, waited = prompt.text[: 5 * pairs], prompt.text[5 * pairs : 5 * pairs + distance]
    known = dict(re.findall(r"(\w\w)=([A-Z]) ", told_pairs))
    assert len(known) == len(set(known.values())) == pairs
    assert len(waited) == distance and not re.search("[A-Z=]", waited) and not set(waited.split()) & set(known)
    asked = re.findall(r"(\w\w)=([A-Z])", prompt.text[5 * pairs + distance :])
    assert len({key for key, _ in asked}) == queries and all(known[key] == value for key, value in asked)
    assert [prompt.text[a] for a in prompt.answers] == [value for _, value in asked]
    assert prompt.text.isascii()


def test_the_seed_alone_decides() -> None:
    size = {"pairs": 4, "queries": 2, "distance": 32, "count": 5}
    once, again, otherwise = (list(prompts(**size, seed=seed)) for seed in (1, 1, 2))
    assert once == again != otherwise
    assert len(set(once)) == 5


def oracle(row: Tensor) -> Tensor:
    """After `xy=`, the letter that followed `xy=` before."""
    text = bytes(t if t < 128 else 0 for t in row.tolist()).decode()
    said = torch.zeros(len(row), dtype=torch.int64)
    for found in re.finditer(r"(\w\w)=", text):
        first = text.index(found[0])
        if first < found.start():
            said[found.end() - 1] = ord(text[first + 3])
    return one_hot(said, VOCAB) * 9.0


def forgetful(row: Tensor) -> Tensor:
    """Any letter that was told and not yet asked for, and rather a word than a letter."""
    text = bytes(t if t < 128 else 0 for t in row.tolist()).decode()
    logits = torch.zeros(len(row), VOCAB)
    logits[:, ord("q")] = 99.0
    for i in range(len(text)):
        letters = re.findall("[A-Z]", text[: i + 1])
        for letter in letters:
            if letters.count(letter) == 1:
                logits[i, ord(letter)] = 1.0 + (zlib.crc32(f"{text}{letter}".encode()) % 97) / 97
    return logits


def test_a_model_that_remembers_is_always_right() -> None:
    found = values(told(oracle), Recall(distances=(0, 8, 64), prompts=6), batch_tokens=200)
    assert {k: v for k, v in found.items() if k.startswith("accuracy")} == {f"accuracy.{d}": 1.0 for d in (0, 8, 64)}
    assert found["asked"] == 24


def test_a_model_that_forgets_the_keys_is_right_by_chance() -> None:
    metric = Recall(distances=(4,), pairs=4, queries=3, prompts=400)
    assert metric.chance == pytest.approx((1 / 4 + 1 / 3 + 1 / 2) / 3)
    assert values(told(forgetful), metric)["accuracy.4"] == pytest.approx(metric.chance, abs=0.05)


def test_an_emitted_model_is_deterministic(small: Subject) -> None:
    metric = Recall(distances=(16,), prompts=4)
    assert values(small, metric) == values(small, metric)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 9}, "queries <= pairs <= 26: got pairs=8, queries=9"),
        ({"pairs": 27}, "queries <= pairs <= 26"),
        ({"distances": (-1,)}, "`distances` must be 0 or more"),
        ({"prompts": 0}, "`prompts` must be positive"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        Recall(**options)  # type: ignore[arg-type]


def test_a_tokenizer_without_capitals_of_their_own_is_refused() -> None:
    class Joined(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            return [sum(super().encode(text))]

    model = told(oracle)
    with pytest.raises(UnsupportedError, match="no token of its own for a capital"):
        values(Subject("joined", model.model, Joined(), VOCAB), Recall())


def test_letters_are_capitals() -> None:
    assert VALUES == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
