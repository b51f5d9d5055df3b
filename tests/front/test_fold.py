"""Folds say what they fold, are never longer than it, and read as people would write them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.resolve import load
from archc.spec.pattern import expand
from archc.viz.fold import Fold, fold, fold_text
from archc.viz.layers import strip

items = st.text(alphabet="M*-", max_size=40)
repeats = st.lists(st.tuples(st.text(alphabet="M*-", min_size=1, max_size=5), st.integers(1, 6)), max_size=6).map(
    lambda parts: "".join(text * times for text, times in parts)
)


def expanded(folds: Sequence[Fold]) -> Iterator[int]:
    """The position of an item equal to each that the folds cover, in order."""
    for one in folds:
        for _ in range(one.times):
            yield from expanded(one.inner) if one.inner else iter((one.start,))


@settings(deadline=None)
@given(items | repeats)
def test_unfolding_gives_the_sequence_back(keys: str) -> None:
    folds = fold(keys)
    assert "".join(keys[i] for i in expanded(folds)) == keys
    assert sum(one.total for one in folds) == len(keys)
    starts = [one.start for one in folds]
    assert starts == [sum(one.total for one in folds[:i]) for i in range(len(folds))]


@settings(deadline=None)
@given(items | repeats)
def test_the_text_reads_as_a_pattern_of_the_same_layers(keys: str) -> None:
    assert "".join(name for name, _ in expand(fold_text(keys, fold(keys)), ("M", "*", "-"))) == keys


@settings(deadline=None)
@given(items | repeats)
def test_folding_shortens_or_leaves_alone(keys: str) -> None:
    text = fold_text(keys, fold(keys))
    names, brackets = re.findall(r"[M*-]", text), text.count("[") + text.count(" x ")
    assert len(names) + brackets <= len(keys)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("", ""),
        ("M", "M"),
        ("MM", "M M"),
        ("MMM", "3 x M"),
        ("M-M-", "2 x [M -]"),
        ("M-M-M", "2 x [M -] M"),
        ("M*", "M *"),
    ],
)
def test_small_ones(keys: str, text: str) -> None:
    assert fold_text(keys, fold(keys)) == text


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nemotron-nano-12b-v2", "6 x [3 x [M -] M * -] 4 x [M -]"),
        ("llama-3.1-8b", "32 x [* -]"),
        ("mamba2-2.7b", "64 x M"),
        ("nemotron-3-super-120b-a12b", "3 x [3 x [M E] M * E] 4 x [4 x [M E] M * E] 3 x [M E] M * E 4 x [M E]"),
        ("gpt-oss-20b", "12 x [* E *' E]"),
    ],
)
def test_models_of_the_zoo(model: str, text: str) -> None:
    assert strip(load(model), "layers").folded == text


def test_equal_letters_of_other_sizes_do_not_fold() -> None:
    keys = [("-", 4), ("-", 4), ("-", 5), ("-", 4)]
    assert fold_text(["-", "-", "-'", "-"], fold(keys)) == "- - -' -"


@pytest.mark.parametrize(
    "keys", ["M-" * 59, "M-M-M*-" * 17, "M" * 118, "".join("M-*E"[i * i % 7 % 4] for i in range(118))]
)
def test_a_long_model_takes_no_time(keys: str) -> None:
    began = time.perf_counter()
    fold(keys[:118])
    assert time.perf_counter() - began < 1
