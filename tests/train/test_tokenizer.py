"""Tokenizers: text comes back, streams never cut a character, and bad files are errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, UnsupportedError
from archc.train.bytes import ByteTokenizer
from archc.train.tokenizers import Tokenizer, load_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_bytes_come_back(text: str) -> None:
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert all(t < tokenizer.begin for t in tokens)


@given(st.lists(st.integers(0, 300)))
def test_stream_says_the_same_as_decode_for_any_tokens(tokens: list[int]) -> None:
    tokenizer = ByteTokenizer()
    stream = tokenizer.stream()
    assert "".join([stream.feed(t) for t in tokens] + [stream.finish()]) == tokenizer.decode(tokens)


@given(TEXT)
def test_stream_of_whole_text_never_shows_a_broken_character(text: str) -> None:
    stream = ByteTokenizer().stream()
    pieces = [stream.feed(t) for t in text.encode()]
    assert [p for p in pieces if p] == list(text)


def test_specials_are_distinct_and_inside_the_vocabulary() -> None:
    tokenizer = ByteTokenizer()
    assert {tokenizer.begin, tokenizer.end, tokenizer.pad} == {256, 257, 258}
    assert tokenizer.vocab_size == 259


def test_the_byte_tokenizer_travels_as_a_file(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    assert load_tokenizer(tmp_path) == ByteTokenizer()


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match=r"has no tokenizer: looked for archc_tokenizer.json, tokenizer.json, "):
        load_tokenizer(tmp_path)


def test_an_unknown_or_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "archc_tokenizer.json").write_text('{"archc_tokenizer": 2}')
    with pytest.raises(UnsupportedError, match="not a byte tokenizer that archc knows"):
        load_tokenizer(tmp_path)
    (tmp_path / "archc_tokenizer.json").write_text('{"archc_tokenizer"')
    with pytest.raises(ArchcError, match="not JSON"):
        load_tokenizer(tmp_path)


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(["the cat sat on the mat, naïvely"] * 5, trainer)
    engine.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": [1, 5]}')
    return tmp_path


def test_a_hugging_face_tokenizer_is_read(hf_folder: Path) -> None:
    tokenizer: Tokenizer = load_tokenizer(hf_folder)
    text = "the naïve cat → 猫"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert (tokenizer.begin, tokenizer.end) == (0, 1)
    assert tokenizer.vocab_size > max(tokens)
    stream = tokenizer.stream()
    assert "".join([stream.feed(t) for t in tokens] + [stream.finish()]) == text


def test_a_broken_hugging_face_tokenizer_is_an_error(hf_folder: Path) -> None:
    (hf_folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ArchcError, match="is not a tokenizer"):
        load_tokenizer(hf_folder)
