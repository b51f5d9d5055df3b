"""Texts become tokens whose bytes are counted exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.evaluate.texts import beginning, encode, encode_all, read_texts
from archc.kernels.errors import ArchcError, SourceError
from archc.train.bytes import ByteTokenizer
from archc.train.corpus import Document


@dataclass(frozen=True)
class Bare(ByteTokenizer):
    """Bytes without a token that begins or ends anything."""

    begin: int | None = None  # type: ignore[assignment]
    end: int | None = None  # type: ignore[assignment]


@settings(deadline=None)
@given(st.text(max_size=20))
def test_every_byte_is_counted(text: str) -> None:
    found = encode(Document("d", text), ByteTokenizer())
    assert (found.first, found.scored, found.bytes) == (1, len(found.tokens) - 1, found.scored)
    assert found.lossless == (text == text.encode(errors="replace").decode())


@settings(deadline=None)
@given(st.text("aé猫", min_size=1, max_size=20))
def test_without_a_first_token_the_first_character_is_context_and_not_counted(text: str) -> None:
    found = encode(Document("d", text), Bare())
    assert found.bytes == found.scored == len(text[1:].encode())


def test_the_token_that_ends_documents_serves_where_none_begins_them() -> None:
    assert encode(Document("d", "a"), replace(Bare(), end=257)).tokens.tolist() == [257, 97]


def test_a_text_that_its_tokenizer_changes_is_told() -> None:
    class Lower(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.lower())

    (found,) = encode_all([Document("d", "Abc")], Lower(), vocab=300)
    assert not found.lossless and found.bytes == 3


def test_files_and_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/b.txt", "in/a.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    found = read_texts([tmp_path / "c.txt", tmp_path / "in"])
    assert [d.text for d in found] == ["c.txt", "in/a.txt", "in/b.txt"]


def test_bytes_that_are_no_text_are_named_by_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(b"fine\nno\xff")
    with pytest.raises(SourceError, match=r"bad\.txt:2:3: expected UTF-8 text, got byte 0xff"):
        read_texts([file])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="has no files to measure on"):
        read_texts([tmp_path])


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=9), max_size=5), st.integers(1, 30))
def test_the_beginning_of_texts_has_so_many_tokens(texts: list[str], tokens: int) -> None:
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    found = list(beginning(documents, tokens, ByteTokenizer()))
    assert "".join(d.text for d in found) == "".join(texts)[:tokens]
    assert [d.name for d in found] == [d.name for d in documents[: len(found)]]


def test_text_beyond_what_is_wanted_is_not_tokenised() -> None:
    seen: list[int] = []

    class Counting(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            seen.append(len(text))
            return super().encode(text)

    (found,) = beginning([Document("d", "a" * 2**20), Document("e", "b")], 20_000, Counting())
    assert len(found.text) == 20_000
    assert sum(seen) < 2**16


def test_a_foreign_tokenizer_is_noticed_at_the_first_document() -> None:
    seen: list[str] = []

    class Counting(ByteTokenizer):
        def encode(self, text: str) -> list[int]:
            seen.append(text)
            return super().encode(text)

    with pytest.raises(ArchcError, match="the model has a vocabulary of 100: not its own"):
        encode_all([Document("d", "zebra"), Document("e", "never read")], Counting(), vocab=100)
    assert "never read" not in seen
