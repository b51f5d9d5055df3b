"""Scores in files, and `archc importance` as a user runs it: measured, looked at, drawn, refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from archc.cli import app
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.importance import load_scores, measuring, save_scores
from archc.importance.calibration import Sampling, calibration
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, WeightError
from archc.passes import apply
from archc.passes.importance import measure
from archc.passes.scores import Scores
from archc.resolve import load
from archc.spec.load import load_spec
from archc.train.bytes import ByteTokenizer

SPEC = """
archc: 1
name: small
d_model: 8
vocab: 300
blocks:
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 4}}
  E: {moe: {experts: 4, top_k: 2, d_ff: 6}}
  "-": {mlp: {d_ff: 10}}
layers: "*-E"
"""


def small() -> Graph:
    return load_spec(SPEC).graph()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(f"line {n} is {n * n}" for n in range(60)))
    return file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "ckpt"
    write_checkpoint_dir(folder, small(), init_weights(small(), seed=1), {"step": "test"})
    return folder


@pytest.fixture(scope="module")
def measured(checkpoint: Path, text: Path) -> Path:
    file = checkpoint.parent / "scores.safetensors"
    told = archc(
        "importance", checkpoint, "--data", text, "--tokenizer", "bytes", "--tokens", 256, "--sequence", 32,
        "--batch-tokens", 64, "-e", "activation, expert, influence, kl", "-o", file,
    )  # fmt: skip
    assert re.search(r"scores of \d+ units and 6 blocks, over 256 tokens", told)
    return file


def archc(*arguments: object) -> str:
    """What a command prints; errors are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def some_scores() -> Scores:
    return measure(small(), init_weights(small(), seed=0), [torch.arange(24).view(2, 12)], "kl, activation, influence")


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    scores = some_scores()
    save_scores(tmp_path / "s.safetensors", scores)
    found = load_scores(tmp_path / "s.safetensors", small())
    assert (found.graph, found.about) == (scores.graph, scores.about)
    assert found.blocks == scores.blocks and list(found.blocks) == ["kl", "influence"]
    assert {by: list(dims) for by, dims in found.units.items()} == {by: list(d) for by, d in scores.units.items()}
    for by, dims in scores.units.items():
        for name, values in dims.items():
            assert np.array_equal(found.units[by][name], values)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_scores_under_a_text_and_without_bounds_survive(tmp_path: Path) -> None:
    scores = Scores(
        "ab", {"activation{batch=mean, taps=(up)}": {"d": np.ones((2, 3))}}, {"perplexity": {"L0": math.inf}}
    )
    save_scores(tmp_path / "s.safetensors", scores)
    found = load_scores(tmp_path / "s.safetensors")
    assert found.blocks == scores.blocks and list(found.units) == list(scores.units)


def test_scores_of_another_graph_are_refused_and_those_of_an_ancestor_are_not(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.safetensors", some_scores())
    shorter, _ = apply(small(), "drop-layers{layers=(1)}")
    assert load_scores(tmp_path / "s.safetensors", shorter).graph == small().short_hash
    with pytest.raises(ArchcError, match=r"made for another graph, \w{16}: expected scores of `tiny-dense` \(\w{16}\)"):
        load_scores(tmp_path / "s.safetensors", load("tiny-dense"))


def test_files_that_are_no_scores_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ArchcError, match="not a file of scores: `archc importance MODEL -o FILE` writes one"):
        load_scores(checkpoint / "model.safetensors")
    (tmp_path / "cut").write_bytes(b"\x08")
    with pytest.raises(WeightError, match="not a safetensors file"):
        load_scores(tmp_path / "cut")
    save_scores(tmp_path / "s.safetensors", some_scores())
    whole = (tmp_path / "s.safetensors").read_bytes()
    for old, new, message in (
        (b'"archc_scores":"1"', b'"archc_scores":"7"', "scores of version 7, expected 1: measure again"),
        (b'"blocks/kl"', b'"blocks/kk"', "corrupted: `blocks/kk` of shape \\[3\\] is no score"),
        (b'"units/activation/d_model"', b'"uints/activation/d_model"', "corrupted: `uints/activation/d_model`"),
    ):
        assert old in whole
        (tmp_path / "bad").write_bytes(whole.replace(old, new))
        with pytest.raises(ArchcError, match=message):
            load_scores(tmp_path / "bad")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scores(tmp_path / "s.safetensors", some_scores())
    before = (tmp_path / "s.safetensors").read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("archc.hub.safetensors_io.write_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_scores(tmp_path / "s.safetensors", some_scores())
    assert (tmp_path / "s.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# -- calibration -------------------------------------------------------------------------------------------------------


def test_calibration_is_whole_windows_drawn_by_the_seed(text: Path) -> None:
    def drawn(seed: int, tokens: int = 200) -> torch.Tensor:
        how = Sampling(data=(str(text),), tokens=tokens, sequence=16, batch_tokens=48, seed=seed)
        batches = list(calibration(how, ByteTokenizer(), 300))
        assert all(b.tokens.shape[0] <= 3 and b.segments is not None for b in batches)
        return torch.cat([b.tokens for b in batches])

    assert drawn(0).shape == (12, 16)
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
    every = drawn(0, 10**6)
    assert len(every) == text.stat().st_size // 16 == len({tuple(row.tolist()) for row in every})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocab": 100}, "the tokenizer has .* tokens, the model 100: not its own"),
        ({"tokens": 8}, "`tokens` are at least one `sequence`: got 8 tokens and a sequence of 16"),
        ({"sequence": 9000, "tokens": 9000}, "tokens, fewer than a sequence of 9000"),
    ],
)
def test_calibration_that_cannot_be(text: Path, given: dict[str, int], message: str) -> None:
    usual = {"tokens": 64, "sequence": 16, "batch_tokens": 48} | given
    vocab = usual.pop("vocab", 300)
    with pytest.raises(ArchcError, match=message):
        calibration(Sampling(data=(str(text),), **usual), ByteTokenizer(), vocab)  # type: ignore[arg-type]


# -- the command -------------------------------------------------------------------------------------------------------


def test_measured_scores_say_what_they_are_of(measured: Path, checkpoint: Path) -> None:
    scores = load_scores(measured, load(checkpoint))
    assert set(scores.units) == {"activation", "expert"} and set(scores.blocks["influence"]) == {"L0", "L1", "L2"}
    assert scores.about["sequence"] == 32 and scores.about["samples"] == 8 and len(scores.about["data_hash"]) == 64


def test_show_has_a_row_for_each_axis_and_block(measured: Path, checkpoint: Path) -> None:
    shown = archc("importance", "show", measured, "--model", checkpoint)
    for row in (
        r"activation +dims",
        r"mlp d_ff +1 +10 ",
        r"d_model +1 +8 ",
        r"expert +dims",
        r"moe experts +1 +4 ",
        r"L2 +\d",
    ):
        assert re.search(row, shown), row
    plain = archc("importance", "show", measured)
    assert re.search(r"\nd_ff +2 +6 to 10 ", plain)
    found = json.loads(archc("importance", "show", measured, "--json"))
    assert {row["axis"] for row in found["axes"]} >= {"d_model", "d_ff", "experts"}
    assert found["graph"] == small().short_hash and set(found["blocks"]) == {"influence", "kl"}


def test_the_overlay_is_one_that_show_draws(measured: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "importance.json"
    archc("importance", "show", measured, "--model", checkpoint, "--overlay", out)
    drawn = archc("show", checkpoint, "--overlay", out)
    assert "importance: activation, influence" in drawn and "d_ff" in drawn
    nodes = json.loads(out.read_text())["nodes"]
    scores = load_scores(measured)
    assert nodes["L1.mixer"]["*"] == scores.blocks["influence"]["L1"]
    assert nodes["L1.mixer"]["d_ff"] == scores.units["activation"]["L1.mixer.d_ff"].ravel().tolist()
    archc("importance", "show", measured, "--model", checkpoint, "--overlay", out, "--by", "expert")
    assert list(json.loads(out.read_text())["nodes"]) == ["L2.mixer"]
    with pytest.raises(ArchcError, match="did you mean `expert`"):
        archc("importance", "show", measured, "--model", checkpoint, "--overlay", out, "--by", "experts")


def test_scores_of_a_hugging_face_folder_are_those_of_its_weights(tmp_path: Path) -> None:
    """Its config says nothing of formats, so that its graph is not quite that of the weights."""
    spec = (
        SPEC.replace('"*-E"', '"*-"')
        .replace("{d_ff: 10}", "{d_ff: 10, gated: true}")
        .replace("dim: 4}", "dim: 4, rope: {}}")
    )
    graph = load_spec(spec).graph()
    write_checkpoint_dir(tmp_path / "ckpt", graph, init_weights(graph, seed=1), {"step": "test"})
    archc("export", tmp_path / "ckpt", "--to", "hf", "-o", tmp_path / "hf")
    archc("importance", tmp_path / "hf", "-e", "weight_norm", "-o", tmp_path / "s.safetensors")
    archc(
        "importance", "show", tmp_path / "s.safetensors", "--model", tmp_path / "hf", "--overlay", tmp_path / "o.json"
    )
    assert "importance: weight_norm" in archc("show", tmp_path / "hf", "--overlay", tmp_path / "o.json")


def test_plots_are_pictures_of_each_axis(measured: Path, checkpoint: Path, tmp_path: Path) -> None:
    archc("importance", "show", measured, "--model", checkpoint, "--svg", tmp_path / "plots")
    found = {p.stem: ElementTree.parse(p).getroot() for p in (tmp_path / "plots").iterdir()}
    assert {"activation-mlp-d_ff", "activation-d_model", "expert-moe-experts", "kl-blocks"} <= set(found)
    assert all(root.tag.endswith("svg") for root in found.values())


def test_what_needs_no_data_needs_no_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    archc("importance", checkpoint, "-e", "weight_norm", "-o", tmp_path / "s.safetensors")
    assert "data" not in load_scores(tmp_path / "s.safetensors").about


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "needs the file of scores"),
        (["show", "FILE", "--tokens", "4k"], "--tokens: only when measuring"),
        (["show", "FILE", "--overlay", "x.json"], "--overlay needs --model"),
        (["CKPT"], "measuring takes a MODEL and -o"),
        (["show", "FILE", "--overwrite"], "--overwrite: only when measuring"),
        (["CKPT", "-o", "x", "--json"], "--json: only with `show`"),
    ],
)
def test_options_that_do_not_belong(arguments: list[str], message: str, measured: Path, checkpoint: Path) -> None:
    names = {"FILE": str(measured), "CKPT": str(checkpoint)}
    command = typer.main.get_command(app)
    with pytest.raises(typer.BadParameter, match=message):
        command.main(["importance", *(names.get(a, a) for a in arguments)], standalone_mode=False)


def test_what_cannot_be_written_is_told_before_anything_is_measured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measured", None)
    there = tmp_path / "there.safetensors"
    there.write_text("others' scores")
    (tmp_path / "folder.safetensors").mkdir()
    for name, options, message in (
        ("scores", [], "scores: scores are a .safetensors file, such as scores.safetensors"),
        ("scores.json", ["--overwrite"], "scores.json: scores are a .safetensors file"),
        ("gone/s.safetensors", [], "gone: no such folder to write s.safetensors into"),
        ("there.safetensors", [], "there.safetensors: exists; write to another file or --overwrite it"),
        ("folder.safetensors", ["--overwrite"], "folder.safetensors: exists and is not a file"),
    ):
        with pytest.raises(ArchcError, match=re.escape(message)):
            archc("importance", checkpoint, "-e", "weight_norm", "-o", tmp_path / name, *options)
    assert there.read_text() == "others' scores"


def test_scores_that_are_there_are_replaced_when_asked_to(checkpoint: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.safetensors"
    there.write_text("others' scores")
    archc("importance", checkpoint, "-e", "weight_norm", "-o", there, "--overwrite")
    assert load_scores(there).units
