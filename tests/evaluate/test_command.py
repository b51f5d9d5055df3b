"""`archc eval` as a user runs it, on all that holds weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from archc import progress
from archc.cli import app
from archc.compilation import compile_model
from archc.evaluate.subject import open_subject
from archc.kernels.errors import ArchcError, WeightError
from archc.train.bytes import ByteTokenizer

TEXT = "Return the sum of x and y.\n" * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a tokenizer, and a text."""
    made = tmp_path_factory.mktemp("eval")
    ByteTokenizer().save(compile_model("tiny-dense", made / "tiny", seed=0))
    ByteTokenizer().save(compile_model("tiny-dense", made / "teacher", seed=1))
    (made / "text.txt").write_text(TEXT)
    return made


def evaluated(*arguments: object) -> Any:
    """What `archc eval --json` prints."""
    run = CliRunner().invoke(app, ["eval", *map(str, arguments), "--json"], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def test_everything_at_once(folder: Path) -> None:
    text, learn = folder / "text.txt", folder / "text.txt"
    asked = ["-m", "perplexity{length=16}", "-m", "recall{distances=(8), prompts=2}"]
    command = (folder / "tiny", "--text", text, "--learn", learn, "--against", folder / "teacher", "--ngram", 3, *asked)
    found = evaluated(*command)
    assert (found["model"], found["teacher"]) == (str(folder / "tiny"), str(folder / "teacher"))
    perplexity, recall, against, ngram = found["measured"]
    assert perplexity["bytes"] == ngram["bytes"] == against["tokens"] == len(TEXT)
    assert set(recall["accuracy"]) == {"8"} and 0 <= against["agreement"] <= 1
    assert evaluated(*command) == found


def test_perplexity_is_what_a_model_alone_is_measured_by(folder: Path) -> None:
    (found,) = evaluated(folder / "tiny", "--text", folder / "text.txt")["measured"]
    assert found["as"] == "perplexity"
    run = CliRunner().invoke(app, ["eval", str(folder / "tiny"), "--text", str(folder / "text.txt")])
    assert f"{found['bits_per_byte']:.4f}" in run.stdout and "bits a byte" in run.stdout


def test_so_much_of_the_text_is_measured(folder: Path) -> None:
    """A byte is a token here: the first 31 of two texts, of which the second begins behind 27."""
    (folder / "first.txt").write_text("Return the sum of x and y.\n")
    texts = ["--text", folder / "first.txt", "--text", folder / "text.txt"]
    (found,) = evaluated(folder / "tiny", *texts, "--tokens", 31)["measured"]
    assert (found["documents"], found["bytes"]) == (2, 31)
    (alone,) = evaluated(folder / "tiny", "--text", folder / "first.txt")["measured"]
    (same,) = evaluated(folder / "tiny", *texts, "--tokens", 27)["measured"]
    assert same == alone
    (whole,) = evaluated(folder / "tiny", *texts, "--tokens", "64k")["measured"]
    assert whole["bytes"] == 27 + len(TEXT)
    (baseline,) = evaluated("--ngram", 2, *texts, "--learn", folder / "text.txt", "--tokens", 31)["measured"]
    assert baseline["bytes"] == 31


@pytest.mark.parametrize("tokens", ["0", "many"])
def test_how_much_text_must_be_a_count(folder: Path, tokens: str) -> None:
    run = CliRunner().invoke(app, ["eval", str(folder / "tiny"), "--tokens", tokens])
    assert run.exit_code == 2 and "--tokens" in run.output


def test_it_tells_how_far_it_is_without_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINES_S", -1.0)
    with caplog.at_level("INFO", logger="archc.progress"):
        evaluated(folder / "tiny", "--text", folder / "text.txt", "-m", "perplexity{length=16}", "--batch-tokens", 16)
    first, *_, last = (record.getMessage() for record in caplog.records)
    assert (
        first.startswith("perplexity: 1 of 10 (10%), about ") and last == "perplexity: 10 of 10 (100%), about 0 s left"
    )


def test_a_baseline_needs_no_model(folder: Path) -> None:
    text = folder / "text.txt"
    (found,) = evaluated("--ngram", 4, "--text", text, "--learn", text)["measured"]
    assert found["bits_per_byte"] < 1


def test_nothing_to_measure_is_refused(folder: Path) -> None:
    run = CliRunner().invoke(app, ["eval", "--text", str(folder / "text.txt")])
    assert run.exit_code == 2 and "give a MODEL, or --ngram 5" in run.output


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(WeightError, match="tiny-dense holds no weights"):
        open_subject("tiny-dense", tokenizer="bytes")


def test_a_package_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    compile_model("tiny-dense", tmp_path / "bare", seed=0)
    with pytest.raises(ArchcError, match="has no tokenizer"):
        open_subject(str(tmp_path / "bare"))


@pytest.mark.slow
def test_a_hugging_face_folder_is_measured_as_transformers_would(tmp_path: Path, folder: Path) -> None:
    import transformers

    from archc.hub.import_ import import_checkpoint

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=320, num_key_value_heads=2, **sizes)
    torch.manual_seed(0)
    theirs: Any = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    imported = import_checkpoint(tmp_path / "hf", tmp_path / "checkpoint")
    compile_model(imported.graph, tmp_path / "package", weights=imported.directory)
    tokens = torch.tensor([[256, *TEXT.encode()]])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(theirs(tokens[:, :-1]).logits[0], tokens[0, 1:])
    for place in ("hf", "checkpoint", "package"):
        (found,) = evaluated(tmp_path / place, "--tokenizer", "bytes", "--text", folder / "text.txt")["measured"]
        assert found["nats_per_token"] == pytest.approx(float(loss), rel=1e-5)
        assert found["bits_per_byte"] == pytest.approx(float(loss) / math.log(2), rel=1e-5)
