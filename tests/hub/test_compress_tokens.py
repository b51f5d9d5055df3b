"""`archc compress` and `archc migrate` with fewer tokens: the tokenizer comes along, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from archc.cli import app
from archc.compress import run
from archc.compress.run import compress
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.hub.export import export_checkpoint
from archc.hub.import_ import import_checkpoint
from archc.ir.execute import execute
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, SpecError, SpecErrors, UnsupportedError
from archc.passes import Pipeline
from archc.passes.prune_vocab import PruneVocab, id_ranges
from archc.resolve import load
from archc.train.tokenizers import load_tokenizer
from archc.train.tokenizers.bpe import train_bpe
from archc.train.tokenizers.kept import closed_ids
from tests.hub.oracles import ORACLES, save

pytest.importorskip("tokenizers")
TEXT = "the cat sat at that hat; then cats chat: reach the heat, teach cats. "
TEMPLATE = "{{ messages[0].content }}"


def archc(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of more ids than its tokenizer has, with what Hugging Face lays beside one."""
    folder = tmp_path_factory.mktemp("parent") / "ckpt"
    graph = load("tiny-dense")
    write_checkpoint_dir(folder, graph, init_weights(graph, seed=0), {"step": "made"})
    train_bpe([TEXT * 5], folder, vocab=280)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1]}))
    (folder / "vocab.json").write_text("{}")  # what a slow tokenizer would read, with the old ids
    return folder


def some(parent: Path) -> list[int]:
    """Ids that can do without the others, of which the last are first."""
    return closed_ids(parent, load_tokenizer(parent).encode("that cat that"))[::-1]


@pytest.fixture(scope="module")
def recipe(parent: Path) -> Path:
    """One pass from a file of ids, another over what that leaves."""
    ids = some(parent)
    (parent.parent / "kept.txt").write_text("# kept\n" + "\n".join(map(str, [*ids, 300, 301])))
    file = parent.parent / "recipe.yaml"
    last = f"prune-vocab: {{keep: [[0, {len(ids)}]]}}"
    file.write_text(f"archc_compress: 1\npasses:\n  - keep-tokens: kept.txt\n  - {last}\n")
    return file


def test_a_text_means_what_it_meant(parent: Path, recipe: Path, tmp_path: Path) -> None:
    """Logits after a text are those of the parent, restricted to the tokens that are kept."""
    done = archc("compress", parent, "--recipe", recipe, "-o", tmp_path / "small")
    assert done.exit_code == 0, done.exception
    made, was = load_checkpoint(tmp_path / "small"), load_checkpoint(parent)
    kept = [*some(parent), 300]
    assert made.graph.dims["vocab"].size == len(kept)
    old, new = load_tokenizer(parent), load_tokenizer(tmp_path / "small")
    before, after = old.encode("that cat that"), new.encode("that cat that")
    assert [kept[i] for i in after] == before and len(before) < len("that cat that")
    expected = execute(was.graph, was.weights(), {"tokens": torch.tensor([before])})["logits"][..., kept]
    found = execute(made.graph, made.weights(), {"tokens": torch.tensor([after])})["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (new.begin, new.end) == (kept.index(0), kept.index(1))
    assert new.decode(after) == "that cat that"


def test_what_lies_beside_comes_along(parent: Path, recipe: Path, tmp_path: Path) -> None:
    archc("compress", parent, "--recipe", recipe, "-o", tmp_path / "small")
    small, kept = tmp_path / "small", some(parent)
    assert (small / "chat_template.jinja").read_text() == TEMPLATE
    told = json.loads((small / "generation_config.json").read_text())
    assert told == {"bos_token_id": kept.index(0), "eos_token_id": [kept.index(1)]}
    assert not (small / "vocab.json").exists()
    assert archc("verify", small, "--parent", parent).exit_code == 0


def test_what_cannot_be_rewritten_is_refused(parent: Path, tmp_path: Path) -> None:
    """By both commands, with the reasons; nothing is written."""
    out = tmp_path / "small"
    done = archc("compress", parent, "--passes", "prune-vocab{keep=((0, 99))}", "-o", out)
    assert isinstance(done.exception, SpecError) and str(done.exception).startswith("--passes:1:1: ")
    assert "letters of the alphabet are not kept" in str(done.exception)
    spec = tmp_path / "spec.yaml"
    spec.write_text("archc: 1\nname: less\nextends: tiny-dense\nchanges: {vocab: 100}\n")
    done = archc("migrate", "--weights", parent, "--from", "tiny-dense", "--to", spec, "--tokens", "0-99", "-o", out)
    assert isinstance(done.exception, UnsupportedError), done.output
    assert "letters of the alphabet are not kept" in str(done.exception)
    assert list(tmp_path.iterdir()) == [spec]


def test_a_refusal_names_the_pass_of_the_recipe(parent: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("archc_compress: 1\npasses:\n  - fold-norms\n  - prune-vocab: {keep: [[0, 99]]}\n")
    done = archc("compress", parent, "--recipe", recipe, "-o", tmp_path / "out")
    assert isinstance(done.exception, SpecError) and str(done.exception).startswith(f"{recipe}:4:5: ")
    assert "letters of the alphabet are not kept" in str(done.exception)


def test_a_tokenizer_that_cannot_lose_tokens_is_refused_before_anything_is_measured(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: Any) -> Any:
        raise AssertionError("importance was measured")

    monkeypatch.setattr(run, "measured", measured)
    (tmp_path / "r.yaml").write_text(
        "archc_compress: 1\n"
        "importance: {estimators: activation, data: [stdlib], tokens: 1k, sequence: 32}\n"
        "passes:\n"
        "  - prune: {dim: d_ff, keep: 0.5}\n"
        "  - prune-vocab: {keep: [[0, 3]]}\n"
    )
    refused = archc("compress", parent, "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "small")
    assert isinstance(refused.exception, SpecError)
    assert (refused.exception.at.line, "cannot do with these tokens" in str(refused.exception)) == (5, True)
    assert not (tmp_path / "small").exists()


def test_migrate_takes_the_tokenizer_along(parent: Path, tmp_path: Path) -> None:
    ids = some(parent)[::-1]
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"archc: 1\nname: less\nextends: tiny-dense\nchanges: {{vocab: {len(ids)}}}\n")
    given = ("--weights", parent, "--from", "tiny-dense", "--to", spec, "--tokens", ",".join(map(str, ids)))
    done = archc("migrate", *given, "-o", tmp_path / "less")
    assert done.exit_code == 0, done.exception
    assert load_tokenizer(tmp_path / "less").vocab_size == len(ids)


def test_without_a_tokenizer_it_is_fine_if_no_config_names_what_goes(tmp_path: Path) -> None:
    """A model's own config follows, into what transformers reads; ids of its padding are none."""
    save(ORACLES["llama"], tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config |= {"bos_token_id": 5, "eos_token_id": [7, 9], "pad_token_id": -1}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hf" / "generation_config.json").write_text(json.dumps({"eos_token_id": 9, "top_k": 3}))
    import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    compress(tmp_path / "ckpt", Pipeline((PruneVocab(keep=(9, (3, 8))),)), tmp_path / "small")
    export_checkpoint(tmp_path / "small", tmp_path / "back", "hf")
    told = json.loads((tmp_path / "back" / "config.json").read_text())
    assert told["vocab_size"] == 7
    assert [told[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [3, [5, 0], -1]
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text()) == {"eos_token_id": 0, "top_k": 3}
    with pytest.raises(UnsupportedError, match="imported from names tokens that are not kept: 9"):
        compress(tmp_path / "ckpt", Pipeline((PruneVocab(keep=((0, 8),)),)), tmp_path / "less")
    with pytest.raises(UnsupportedError, match=r"generation_config.json names tokens that are not kept: 9"):
        compress(tmp_path / "hf", Pipeline((PruneVocab(keep=((0, 8),)),)), tmp_path / "less")
    assert not (tmp_path / "less").exists()


def test_a_vocabulary_that_nothing_here_reads_is_refused(parent: Path, tmp_path: Path) -> None:
    """It would come along with the old ids."""
    graph = load("tiny-dense")
    write_checkpoint_dir(tmp_path / "ckpt", graph, init_weights(graph, seed=0), {"step": "made"})
    (tmp_path / "ckpt" / "vocab.json").write_text("{}")
    with pytest.raises(ArchcError, match="has no tokenizer"):
        compress(tmp_path / "ckpt", Pipeline((PruneVocab(keep=id_ranges(range(9))),)), tmp_path / "out")


def test_files_of_ids_that_are_none(tmp_path: Path) -> None:
    from archc.compress.recipe import load_recipe

    (tmp_path / "ids.txt").write_text("1\n2-x\n")
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "archc_compress: 1\npasses:\n  - keep-tokens: none.txt\n  - keep-tokens: ids.txt\n  - keep-tokens: [1, 2]\n"
    )
    with pytest.raises(SpecErrors) as raised:
        load_recipe(file)
    assert [(e.at.line, e.at.column) for e in raised.value.errors] == [(3, 18), (4, 18), (5, 18)]
    for said in ("none.txt: no such file of ids", "ids.txt:2: expected an id or a range", "expected a file of ids"):
        assert said in str(raised.value)
