"""`archc compress` that fits linear blocks on text between its passes, and what it stores new weights as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import archc as package
from archc.cli import app
from archc.compress.recipe import load_recipe
from archc.compress.run import compress
from archc.compress.verify import verify
from archc.fitted import write_fitted
from archc.hub.checkpoint_dir import CheckpointDir, load_checkpoint, write_checkpoint_dir
from archc.importance.calibration import Sampling
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, SpecError, SpecErrors, WeightError
from archc.passes import Pipeline
from archc.passes.ridge import fit_linear
from archc.resolve import load
from archc.spec.load import load_spec

TEXT = "\n".join(f"line {n} is {n * n}" for n in range(60))
SPEC = """
archc: 1
name: small
d_model: 12
vocab: 300
blocks:
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 4}}
  "-": {mlp: {d_ff: 10}}
layers: "*-*-"
"""
RECIPE = """\
archc_compress: 1
calibration: {data: [text.txt], tokens: 512, sequence: 32, batch_tokens: 128, tokenizer: bytes}
passes:
  - prune: {dim: d_model, to: 8, by: first}
  - drop-layers: {layers: [0]}
  - replace-linear: {layers: [0], bias: true, ridge: 0.01}
  - replace-linear: {layers: [2]}
"""


def archc(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def saved(folder: Path, graph: Graph, dtype: torch.dtype = torch.float32) -> Path:
    weights = {k: w + 0.2 * torch.randn_like(w) for k, w in init_weights(graph, seed=0).items()}
    write_checkpoint_dir(folder, graph, {k: w.to(dtype) for k, w in weights.items()}, {"step": "made"})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("fitted")
    saved(made / "ckpt", load_spec(SPEC).graph())
    (made / "text.txt").write_text(TEXT)
    (made / "recipe.yaml").write_text(RECIPE)
    return made


@pytest.fixture(scope="module")
def made(folder: Path) -> CheckpointDir:
    done = archc("compress", folder / "ckpt", "--recipe", folder / "recipe.yaml", "-o", folder / "out")
    assert done.exit_code == 0, done.exception
    return load_checkpoint(folder / "out")


def test_each_pass_is_fitted_on_the_graph_before_it(folder: Path, made: CheckpointDir) -> None:
    """The second one sees the first one's map in the place of what was there."""
    how = load_recipe(folder / "recipe.yaml").calibration
    was = load_checkpoint(folder / "ckpt")
    assert how is not None
    batches = [batch.inputs for batch in how.text(folder / "ckpt", was.graph)]
    assert sum(batch["tokens"].numel() for batch in batches) == 512
    graph, moved = package.apply(was.graph, "prune{dim=d_model, to=8, by=first}; drop-layers{layers=(0)}")
    weights: Mapping[str, Tensor] = moved.apply(was.weights())
    for at, bias, ridge in ((0, True, 0.01), (2, False, 1e-4)):
        block = graph.blocks["layers"][at]
        assert block == f"L{at + 1}"  # the parent's
        found = fit_linear(graph, weights, batches, [block], ridge=ridge, bias=bias)
        graph, moved = package.apply(graph, f"replace-linear{{layers=({at}), bias={str(bias).lower()}}}")
        fitted = {f"layers.{at}.mixer.{key.rpartition('.')[2]}": value.float() for key, value in found.items()}
        weights = {**moved.apply(weights), **fitted}
    assert made.graph.nodes == graph.nodes
    assert weights.keys() == made.weights().keys()
    for key, value in made.weights().items():
        torch.testing.assert_close(value, weights[key], rtol=1e-6, atol=1e-7)


def test_the_pipeline_names_what_was_fitted_and_is_replayed(folder: Path, made: CheckpointDir) -> None:
    step = made.history[-1]
    assert ["path=" in one for one in step["pipeline"]] == [False, False, True, True]
    assert all(f"path=fitted-{at}.safetensors" in step["pipeline"][at - 1] for at in (3, 4))
    assert step["calibration"]["tokens"] == 512 and len(step["calibration"]["data_hash"]) == 64
    verified = archc("verify", folder / "out", "--parent", folder / "ckpt")
    assert verified.exit_code == 0, verified.output
    # The parent does not have the files; beside them the pipeline can be applied as it is.
    again = Pipeline.parse("\n".join(step["pipeline"]))
    with pytest.raises(WeightError, match=r"fitted-3.safetensors: no such file below"):
        compress(folder / "ckpt", again, folder / "again")
    for name in ("fitted-3.safetensors", "fitted-4.safetensors"):
        (folder / "ckpt" / name).write_bytes((folder / "out" / name).read_bytes())
    try:
        other = compress(folder / "ckpt", again, folder / "again")
    finally:
        for name in ("fitted-3.safetensors", "fitted-4.safetensors"):
            (folder / "ckpt" / name).unlink()
    assert all(made.tensors.read(key).equal(other.tensors.read(key)) for key in made.tensors.names)
    assert not verify(folder / "again", folder / "ckpt").problems
    (folder / "again" / "fitted-3.safetensors").write_bytes((folder / "out" / "fitted-4.safetensors").read_bytes())
    with pytest.raises(WeightError, match="the map was made with"):
        verify(folder / "again", folder / "ckpt")


def test_it_is_nearer_to_what_was_there(folder: Path, made: CheckpointDir, tmp_path: Path) -> None:
    """Than the same blocks at zero, as they begin without a text."""
    text = "\n".join(line for line in RECIPE.splitlines() if not line.startswith("calibration"))
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    zero = compress(folder / "ckpt", recipe.passes, tmp_path / "zero")
    pruned = compress(folder / "ckpt", Pipeline(recipe.passes.passes[:2]), tmp_path / "pruned")
    tokens = {"tokens": torch.tensor([list(b"line 77 is 5929 and line 78")])}
    wanted, found, without = (
        execute(one.graph, one.weights(), tokens, taps=["norm"])["norm"] for one in (pruned, made, zero)
    )
    assert (found - wanted).square().mean() < 0.7 * (without - wanted).square().mean()


def test_new_weights_are_stored_as_those_before(tmp_path: Path) -> None:
    saved(tmp_path / "ckpt", load("tiny-dense"), torch.bfloat16)
    (tmp_path / "text.txt").write_text(TEXT)
    how = Sampling(data=(str(tmp_path / "text.txt"),), tokens=64, sequence=32, tokenizer="bytes")
    pipeline = Pipeline.parse("attention-to-mamba; replace-linear{layers=(1)}; replace-linear{layers=(2), dtype=fp32}")
    made = compress(tmp_path / "ckpt", pipeline, tmp_path / "out", calibration=how)
    assert {made.tensors.dtypes[key] for key in made.tensors.names if ".2.mixer" not in key} == {"bf16"}
    assert made.tensors.dtypes["layers.2.mixer.weight"] == "fp32"


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    lines = RECIPE.replace("text.txt", str(folder / "text.txt")).splitlines()
    recipe.write_text("\n".join(lines[:5]))
    with pytest.raises(SpecErrors, match=r"recipe.yaml:2:1: `calibration`: no pass is fitted on it"):
        load_recipe(recipe)
    recipe.write_text("\n".join([*lines[:3], "  - prune-vocab: {keep: [[0, 280]]}", *lines[5:]]))
    made = load_recipe(recipe)
    with pytest.raises(SpecError, match=r"recipe.yaml:5:5: (?s:.*)stands before what removes some"):
        compress(folder / "ckpt", made.passes, tmp_path / "out", calibration=made.calibration)
    for path, said in (("../text.txt", "no such file below"), ("model.safetensors", "has a file of its own")):
        named = Pipeline.parse(f'replace-linear{{layers=(1), path="{path}", sha256="{"0" * 64}"}}')
        with pytest.raises(WeightError, match=said):
            compress(folder / "ckpt", named, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [recipe]


def test_files_that_were_fitted_before_stay_with_the_weights(folder: Path, tmp_path: Path) -> None:
    """Also in folders; another pass can be fitted after one that was."""
    saved(tmp_path / "ckpt", load_spec(SPEC).graph())
    (tmp_path / "ckpt" / "fits").mkdir()
    sha256 = write_fitted(tmp_path / "ckpt/fits/one.safetensors", {"L1.mixer.weight": torch.eye(12).double()})
    named = (
        f'replace-linear{{layers=(1), path="fits/one.safetensors", sha256="{sha256}"}}; replace-linear{{layers=(3)}}'
    )
    how = Sampling(data=(str(folder / "text.txt"),), tokens=64, sequence=32, tokenizer="bytes")
    made = compress(tmp_path / "ckpt", Pipeline.parse(named), tmp_path / "out", calibration=how)
    assert made.tensors.read("layers.1.mixer.weight").equal(torch.eye(12))
    (tmp_path / "ckpt" / "fits" / "one.safetensors").unlink()
    assert not verify(tmp_path / "out", tmp_path / "ckpt").problems


def test_errors_of_the_text_are_the_section_s(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("text.txt", str(folder / "text.txt")).replace(", tokenizer: bytes", "")
    recipe.write_text(text)
    done = archc("compress", folder / "ckpt", "--recipe", recipe, "-o", tmp_path / "out")
    assert isinstance(done.exception, ArchcError)
    assert f"{recipe}:2:1: " in str(done.exception) and "has no tokenizer" in str(done.exception)
