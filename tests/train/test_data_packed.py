"""Packed datasets: every document whole, built once, refused when stale or damaged, skipped lines counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, DataError
from archc.train import packed as module
from archc.train import packing
from archc.train.bytes import ByteTokenizer
from archc.train.packed import MANIFEST, PackedDataset
from archc.train.sources import Document, Piece, Reading, Source
from archc.train.sources.rows import Jsonl
from archc.train.sources.text import Text
from archc.train.tokenizers import load_tokenizer
from archc.train.tokenizers.bpe import train_bpe

BYTES = ByteTokenizer()


@dataclass(frozen=True)
class Given(Source):
    """Documents of a test."""

    documents_: tuple[Document, ...]
    name = "given"
    places = ("documents_",)
    part = "all"
    held_out = 0.05

    def read(self, reading: Reading) -> Iterator[Document]:
        yield from self.documents_

    def content(self) -> Iterable[str]:
        return map(repr, self.documents_)


def text_source(folder: Path, *texts: str) -> Text:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text)
    return Text(files=str(folder))


def expected(document: Document) -> tuple[list[int], list[int]]:
    """The oracle: piece by piece, with marks."""
    tokens, learn = [], []
    for piece in document.pieces:
        tokens += BYTES.encode(piece.text)
        learn += [int(piece.learn)] * len(BYTES.encode(piece.text))
    if document.marks:
        first, last = (int(document.pieces[at].learn) for at in (0, -1))
        tokens, learn = [BYTES.begin, *tokens, BYTES.end], [first, *learn, last]
    return tokens, learn


PIECES = st.lists(st.builds(Piece, st.text(min_size=1, max_size=12), st.booleans()), min_size=1, max_size=3)
DOCUMENTS = st.lists(st.builds(Document, PIECES.map(tuple), st.booleans()), min_size=1, max_size=8).map(tuple)


@given(documents=DOCUMENTS, shard=st.integers(1, 40), group=st.integers(1, 30))
def test_documents_come_back_whole_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: tuple[Document, ...], shard: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "GROUP_CHARACTERS", group)
        patch.setattr(packing, "SHARD_TOKENS", shard)
        dataset = PackedDataset.build(Given(documents), BYTES, folder / "data")
    assert len(dataset.starts) == len(documents) == dataset.manifest.documents
    wanted = [expected(document) for document in documents]
    assert [dataset.document(n).tolist() for n in range(len(documents))] == [tokens for tokens, _ in wanted]
    flat = [flag for _, flags in wanted for flag in flags]
    learn = dataset.learn(0, len(dataset))
    assert (np.ones(len(dataset), int) if learn is None else learn).tolist() == flat
    assert dataset.manifest.learnt == sum(flat)
    numbers = [n for n, (tokens, _) in enumerate(wanted) for _ in tokens]
    middle = len(dataset) // 3
    assert (dataset.segments(middle, len(dataset)) + numbers[middle]).tolist() == numbers[middle:]
    assert dataset.manifest.text_bytes == sum(len(document.text.encode()) for document in documents)

    whole = PackedDataset.build(Given(documents), BYTES, folder / "whole")
    assert whole.hash == dataset.hash
    assert len(list((folder / "whole").glob("tokens-*"))) == 1


def test_a_large_vocabulary_takes_wider_tokens(tmp_path: Path) -> None:
    class Large(ByteTokenizer):
        vocab_size = 70_000  # type: ignore[assignment]

    dataset = PackedDataset.build(text_source(tmp_path / "in", "a"), Large(end=69_999), tmp_path / "out")
    assert (dataset.manifest.dtype, dataset.document(0).tolist()) == ("uint32", [256, 97, 69_999])


def test_a_token_outside_the_vocabulary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="the tokenizer gives token 70000 of a vocabulary of 259"):
        PackedDataset.build(text_source(tmp_path / "in", "a"), ByteTokenizer(end=70_000), tmp_path / "out")


def test_it_is_built_once_and_found_again_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, cache = text_source(tmp_path / "in", "one", "two"), tmp_path / "cache"
    first = PackedDataset.cached(source, BYTES, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "pack", None)
        assert PackedDataset.cached(source, BYTES, cache=cache).folder == first.folder
    text_source(tmp_path / "in", "one", "three")
    second = PackedDataset.cached(source, BYTES, cache=cache)
    bpe = train_bpe(["one two"], tmp_path / "bpe", vocab=260)
    third = PackedDataset.cached(source, bpe, cache=cache)
    assert len({first.folder, second.folder, third.folder}) == 3
    assert len({first.hash, second.hash, third.hash}) == 3


def test_a_stale_folder_is_refused(tmp_path: Path) -> None:
    source = text_source(tmp_path / "in", "one")
    PackedDataset.build(source, BYTES, tmp_path / "out")
    assert PackedDataset.build(source, BYTES, tmp_path / "out").manifest.documents == 1
    with pytest.raises(ArchcError, match=r"out: stale: expected on_bad skip, it has stop: remove the folder"):
        PackedDataset.build(source, BYTES, tmp_path / "out", on_bad="skip")
    text_source(tmp_path / "in", "changed")
    with pytest.raises(ArchcError, match=r"out: stale: expected source \w+, it has \w+: remove the folder to build"):
        PackedDataset.build(source, BYTES, tmp_path / "out")
    with pytest.raises(ArchcError, match=r"stale: expected tokenizer"):
        PackedDataset.open(tmp_path / "out", tokenizer=train_bpe(["one two"], tmp_path / "bpe", vocab=260))


def damage(folder: Path, how: str) -> None:
    tokens, manifest = folder / "tokens-00000.bin", folder / MANIFEST
    stored = json.loads(manifest.read_text())
    if how == "cut":
        os.truncate(tokens, tokens.stat().st_size - 1)
    if how == "missing":
        tokens.unlink()
    if how == "no manifest":
        manifest.unlink()
    if how == "half a manifest":
        manifest.write_text(manifest.read_text()[:40])
    if how == "old":
        manifest.write_text(json.dumps({**stored, "version": 0}))
    if how == "field":
        del stored["tokens"]
        manifest.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"out: damaged: tokens-00000.bin has 9 bytes, expected 10: remove the folder"),
        ("missing", r"out: damaged: tokens-00000.bin is missing"),
        ("no manifest", r"out: not a packed dataset, it has no manifest.json"),
        ("half a manifest", r"out/manifest.json: corrupted"),
        ("old", r"version 0 of the format, expected 1"),
        ("field", r"corrupted: tokens"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, how: str, message: str) -> None:
    PackedDataset.build(text_source(tmp_path / "in", "one"), BYTES, tmp_path / "out")
    damage(tmp_path / "out", how)
    with pytest.raises(ArchcError, match=message):
        PackedDataset.open(tmp_path / "out")


def test_what_is_skipped_stands_in_the_manifest_and_what_stops_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n{\n\n{"text": "b"}\n{\n')
    source = Jsonl(files=str(file))
    with pytest.raises(DataError, match=r"a.jsonl:2: broken JSON"):
        PackedDataset.build(source, BYTES, tmp_path / "out")
    assert seen(tmp_path) == ["a.jsonl"]
    dataset = PackedDataset.build(source, BYTES, tmp_path / "out", on_bad="skip")
    assert dataset.manifest.skipped == {str(file): {"broken JSON": 2, "empty document": 1}}
    assert PackedDataset.open(tmp_path / "out").manifest == dataset.manifest
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{file}: skipped 2 broken JSON, 1 empty document, first at line 2"]


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(ArchcError, match="no document to learn from"):
        PackedDataset.build(Jsonl(files=str(tmp_path / "a.jsonl")), BYTES, tmp_path / "out", on_bad="skip")


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    source = text_source(tmp_path / "in", "one")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(ArchcError, match="exists and is not a packed dataset"):
        PackedDataset.build(source, BYTES, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


TOGETHER = """
import sys
from archc.train import packing
from archc.train.bytes import ByteTokenizer
from archc.train.packed import PackedDataset
from archc.train.sources.text import Text
pack = packing.pack
def told(*arguments, **options):
    print("packed")
    return pack(*arguments, **options)
packing.pack = told
print(len(PackedDataset.build(Text(files=sys.argv[1]), ByteTokenizer(), sys.argv[2])))
"""


def test_of_processes_that_build_together_one_does_and_leftovers_go(tmp_path: Path) -> None:
    text_source(tmp_path / "in", "one" * 100_000)
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "tokens-00000.bin").write_bytes(b"of a process that was killed")
    command = [sys.executable, "-c", TOGETHER, str(tmp_path / "in"), str(tmp_path / "out")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0].split() for process in processes]
    assert sorted(map(len, said)) == [1, 1, 2]
    assert {words[-1] for words in said} == {"300002"}
    assert seen(tmp_path) == ["in", "out"]


def seen(folder: Path) -> list[str]:
    """What lies in a folder, locks left out."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing._Writer, "add", full)
    with pytest.raises(OSError, match=r"No space left on device.*out") as caught:
        PackedDataset.build(text_source(tmp_path / "in", "one"), BYTES, tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out")
    assert seen(tmp_path) == ["in"]


def test_files_that_change_while_they_are_read_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, tokenised = text_source(tmp_path / "in", "one"), packing._tokenised

    def meddling(*arguments: Any) -> Any:
        text_source(tmp_path / "in", "changed")
        return tokenised(*arguments)

    monkeypatch.setattr(packing, "_tokenised", meddling)
    with pytest.raises(ArchcError, match="its files changed while they were read"):
        PackedDataset.build(source, BYTES, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_text_comes_back_through_a_trained_vocabulary(tmp_path: Path) -> None:
    texts = ["The cat sat.\n", "On the mat → 猫 sat the cat."]
    train_bpe(texts, tmp_path / "bpe", vocab=270)
    tokenizer = load_tokenizer(tmp_path / "bpe")
    dataset = PackedDataset.build(text_source(tmp_path / "in", *texts), tokenizer, tmp_path / "out")
    assert [tokenizer.decode(dataset.document(n).tolist()) for n in range(2)] == texts
    assert dataset.document(0)[0] == tokenizer.begin
    assert dataset.document(0)[-1] == tokenizer.end


MEMORY = """
import resource, sys
from pathlib import Path
from archc.train.bytes import ByteTokenizer
from archc.train.packed import PackedDataset
from archc.train.sources.text import Text
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = PackedDataset.build(Text(files=sys.argv[1]), ByteTokenizer(), Path(sys.argv[2]))
print(len(made), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("line", ["some words of a line\n", "words without an end of line "])
def test_memory_does_not_grow_with_the_data(tmp_path: Path, line: str) -> None:
    grown = []
    for megabytes in (32, 256):
        file = tmp_path / f"{megabytes}.txt"
        file.write_text(line * (megabytes * 2**20 // len(line)))
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(file), str(tmp_path / f"out-{megabytes}")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        tokens, kilobytes = map(int, run.stdout.split())
        assert tokens >= file.stat().st_size
        grown.append(kilobytes)
    assert grown[1] < grown[0] + 60_000


def test_the_module_says_what_it_writes(tmp_path: Path) -> None:
    documents = (Document((Piece("q", False), Piece("a"))),)
    dataset = PackedDataset.build(Given(documents), BYTES, tmp_path / "out")
    kinds = {path.name.split("-")[0].split(".")[0] for path in dataset.folder.iterdir()}
    assert kinds == {"manifest", "tokens", "learn", "documents"}
    assert all(kind in (module.__doc__ or "") for kind in kinds)
