"""Candidates taken out of a search: recipes that `archc compress` takes as they are, descriptions in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import archc
from archc.cli import app
from archc.compress.recipe import load_recipe
from archc.hub.checkpoint import write_tensors
from archc.hub.checkpoint_dir import new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.ir.init import init_weights
from archc.kernels.errors import UnknownName
from archc.searching.file import load_search
from archc.searching.pick import Picked, picked
from archc.searching.run import run_search
from archc.train.bytes import ByteTokenizer

WEIGHTED = """\
archc_search: 1
name: cut
base: ckpt
space: {d_model: [96, 128], moe.d_ff: [128, 192]}
budgets: ["params.total <= 1.5M"]
objectives: [minimize params.total]
"""
MEASURED = WEIGHTED + "importance: {estimators: 'activation, weight_norm', tokens: 256, sequence: 64}\n"
OPTIONS = """\
archc_search: 1
name: told
base: tiny-hybrid
space:
  attention.rope: [none, {theta: 10000.0}]
  attention.rope.theta: {values: [5000.0, 10000.0], when: {attention.rope: [{theta: 10000.0}]}}
  moe.d_ff: [64, 128]
objectives: [minimize params.total]
"""


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted")
    graph = archc.load("tiny-hybrid")
    with new_checkpoint(folder / "ckpt", graph, {"step": "made"}) as staged:
        ByteTokenizer().save(staged)
        write_tensors(staged, [Outgoing.of(k, w) for k, w in init_weights(graph, seed=0).items()])
    for name, text in (("unscored", WEIGHTED), ("scored", MEASURED)):
        (folder / f"{name}.yaml").write_text(text)
        run_search(load_search(folder / f"{name}.yaml"), folder / name)
    return folder


def recipe_of(run: Path, *more: str) -> str:
    out = run.parent / "recipe.yaml"
    made = CliRunner().invoke(app, ["best", str(run), "--pick", "first", "--recipe", str(out), *more])
    assert made.exit_code == 0, made.output
    return out.read_text()


def test_a_recipe_carries_the_scores_of_the_search(weighted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weighted)
    text = recipe_of(Path("scored"))
    assert f'importance: "{weighted}/scored/importance.safetensors"' in text and "by=" not in text
    made = load_recipe(weighted / "recipe.yaml")
    assert made.importance == weighted / "scored/importance.safetensors"
    done = CliRunner().invoke(app, ["compress", "ckpt", "--recipe", "recipe.yaml", "-o", "scored-cut"])
    assert done.exit_code == 0, done.output
    assert "by=weight_norm" in recipe_of(weighted / "scored", "--by", "weight_norm")
    assert "importance:" not in recipe_of(weighted / "scored", "--by", "random")


def test_a_recipe_of_a_search_without_scores_takes_the_first_units_and_compress_takes_it(weighted: Path) -> None:
    text = recipe_of(weighted / "unscored")
    assert "importance" not in text and "by=" not in text.replace("by=first", "")
    command = ["compress", str(weighted / "ckpt"), "--recipe", str(weighted / "recipe.yaml"), "-o", str(weighted / "x")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output


def test_units_are_kept_by_an_estimator_that_the_scores_hold(weighted: Path) -> None:
    chosen = picked(weighted / "scored", "first")
    assert isinstance(chosen, Picked)
    with pytest.raises(UnknownName, match=r"unknown estimator of .*importance.safetensors `activatoin`: did you mean"):
        chosen.recipe("activatoin")
    bare = picked(weighted / "unscored", "first")
    assert isinstance(bare, Picked)
    with pytest.raises(UnknownName, match=r"the search has no scores\) `activation`: known are first, random"):
        bare.recipe("activation")


def test_a_candidate_is_described_by_what_its_values_stand_for(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(OPTIONS)
    found = run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    told = {picked(tmp_path / "run", c.name).described.partition(": ")[2] for c in found.candidates}
    assert "attention.rope none, attention.rope.theta -, moe.d_ff 64" in told
    assert not any("attention.rope 1" in one for one in told)
    assert any("attention.rope {theta: 10000.0}, attention.rope.theta 5000.0" in one for one in told)
