"""`archc tokenizer train`, and what else reads its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archc.cli import app
from archc.kernels.errors import ArchcError, DataError
from archc.train.packed import PackedDataset
from archc.train.sources.text import Text
from archc.train.tokenizers import load_tokenizer
from archc.train.tokenizers.bpe import SMALLEST, train_bpe

TEXT = "The cat sat on the mat, and the other cat → 猫 sat on the cat.\n" * 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    (folder / "a.txt").write_text(TEXT)
    run(str(folder / "a.txt"), "-o", str(folder / "out"), "--vocab", "280")
    return folder / "out"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["tokenizer", "train", *arguments], catch_exceptions=True)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_it_is_trained_and_read_by_everything(trained: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(trained)
    assert tokenizer.vocab_size == 280
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT
    assert len(tokens) < 0.75 * len(TEXT.encode())
    (tmp_path / "a.txt").write_text(TEXT)
    packed = PackedDataset.build(Text(files=str(tmp_path / "a.txt")), tokenizer, tmp_path / "packed")
    assert packed.document(0).tolist() == [tokenizer.begin, *tokens, tokenizer.end]


@pytest.mark.slow
def test_transformers_reads_the_same_tokens(trained: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(trained), load_tokenizer(trained)
    assert theirs(TEXT, add_special_tokens=False)["input_ids"] == ours.encode(TEXT)
    assert theirs.decode(ours.encode(TEXT)) == TEXT
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.begin, ours.end)


def test_the_same_text_gives_the_same_file(trained: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"body": text}) + "\n" for text in (TEXT, "{}"))
    (tmp_path / "rows.jsonl").write_text(rows + "{\n")
    (tmp_path / "a.txt").write_text(TEXT)
    run(str(tmp_path / "a.txt"), "-o", str(tmp_path / "again"), "--vocab", "280")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    options = ["-o", str(tmp_path / "rows"), "--vocab", "270", "--field", "body"]
    with pytest.raises(
        DataError, match=r"rows.jsonl:3: broken JSON.* \(`--skip-bad` leaves such lines out and counts them\)"
    ):
        run(str(tmp_path / "rows.jsonl"), *options)
    assert not (tmp_path / "rows").exists()
    assert run(str(tmp_path / "rows.jsonl"), *options, "--skip-bad").strip() == f"{tmp_path / 'rows'}: 270 tokens"


def test_sizes_that_cannot_be_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match=f"has {SMALLEST} tokens at least, the bytes and 3 more: got 100"):
        train_bpe([TEXT], tmp_path, vocab=100)
    with pytest.raises(ArchcError, match=r"the text gives a vocabulary of \d+ tokens: got 5000; give more text"):
        train_bpe([TEXT], tmp_path, vocab=5000)
