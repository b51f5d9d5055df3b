"""`archc diff` of checkpoints: what became of the weights, in words, JSON, pages, pictures and the exit status."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

import archc
from archc.cli import app
from archc.hub.checkpoint_dir import new_checkpoint, write_checkpoint_dir
from archc.hub.stream import run_into
from archc.hub.weights import weights_of
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.selection import Selections, keep
from archc.ir.slicing import select
from archc.spec import spec_from_graph
from tests.front.pages import Reader
from tests.front.test_picture import check_picture, words

Tensors = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints: `a`; `noise`, `experts`, `cast` made of it; `deep` of equal layers and `shallow` without some."""
    root = tmp_path_factory.mktemp("checkpoints")
    graph, weights = archc.load("tiny-moe"), init_weights(archc.load("tiny-moe"))
    write(root / "a", graph, weights)
    key = "layers.1.mixer.up_proj"
    write(root / "noise", graph, {**weights, key: weights[key] * 1.25})
    write(root / "cast", graph, {name: tensor.bfloat16() for name, tensor in weights.items()})
    a = weights_of(root / "a")
    kept = keep(a.graph.dims["L1.mixer.experts"], [i for i in range(8) if i not in (1, 5)])
    fewer, made = select(a.graph, Selections([kept]))
    with new_checkpoint(root / "experts", fewer, {"step": "test"}) as staging:
        run_into(staging, made, a.tensors)
    deep = archc.load("tiny-mamba")
    weights = init_weights(deep)
    write(root / "deep", deep, weights)
    dropped, made = archc.apply(deep, "drop-layers{layers=(0, 5, 6, 11)}")
    write(root / "shallow", spec_from_graph(dropped).graph(), made.apply(weights))
    return root


def write(folder: Path, graph: Graph, weights: Tensors) -> None:
    write_checkpoint_dir(folder, graph, weights, {"step": "test"})


def diff(folder: Path, a: str, b: str, *options: str) -> Result:
    """`archc diff A B`, of folders or of models of the zoo."""
    models = [str(folder / name) if (folder / name).exists() else name for name in (a, b)]
    return CliRunner().invoke(app, ["diff", *models, *options], env={"COLUMNS": "120"})


def told(folder: Path, a: str, b: str) -> Any:
    """The JSON of a diff."""
    return json.loads(diff(folder, a, b, "--json").stdout)


def test_the_same(folder: Path) -> None:
    result = diff(folder, "a", "a")
    assert result.exit_code == 0, result.output
    assert re.search(r"^weights +\d+ parameters same$", result.stdout, re.M) and "no difference" in result.stdout
    found = told(folder, "a", "a")
    counts = found["weights"]["counts"]
    assert found["same"] and counts.pop("same") == len(found["weights"]["params"]) == len(
        weights_of(folder / "a").shapes
    )
    assert set(counts.values()) == {0} and not found["weights"]["units"] and not found["weights"]["dropped"]


def test_removed_experts(folder: Path) -> None:
    result = diff(folder, "a", "experts")
    assert result.exit_code == 1
    assert "experts 8 -> 6 in 1 of 4 moe layers" in result.stdout
    assert "experts 1, 5 removed from layer 1" in result.stdout
    assert re.search(r"^weights +\d+ parameters same, 4 sliced$", result.stdout, re.M)
    found = told(folder, "a", "experts")
    (units,) = found["weights"]["units"]
    assert (units["size"], units["new_size"], units["kept"]) == (8, 6, ["0,2:5,6:8"])
    sliced = [p for p in found["weights"]["params"] if p["status"] == "sliced"]
    assert {p["param"] for p in sliced} == {"router", "gate_proj", "up_proj", "down_proj"}
    assert all(p["dims"] == ["L1.mixer.experts"] and p["position"] == 1 for p in sliced)


def test_which_of_equal_layers_went_is_told_by_their_weights(folder: Path) -> None:
    result = diff(folder, "deep", "shallow")
    assert result.exit_code == 1
    assert "layers paired by weights" in result.stdout
    assert "dropped: layers 0, 5-6, 11 (mamba2)" in result.stdout
    assert re.search(r"^weights +\d+ parameters same, \d+ of A dropped$", result.stdout, re.M)
    found = told(folder, "deep", "shallow")
    assert (found["aligned_by"], found["open"]) == ("evidence", [])
    assert {key.split(".")[1] for key in found["weights"]["dropped"]} == {"0", "5", "6", "11"}
    blind = diff(folder, "deep", "shallow", "--no-weights")
    assert "layers paired by structure" in blind.stdout and "structure does not tell" in blind.stdout


def test_noise_is_no_change_of_the_architecture(folder: Path) -> None:
    result = diff(folder, "a", "noise")
    assert result.exit_code == 1, "weights differ"
    assert "the same structure" in result.stdout
    assert "1 changed (relative norm 0.25)" in result.stdout
    assert "changed: up_proj of moe in layer 1 (relative norm 0.25)" in result.stdout
    (changed,) = [p for p in told(folder, "a", "noise")["weights"]["params"] if p["status"] == "changed"]
    assert changed["key"] == "layers.1.mixer.up_proj" and changed["norm"] == pytest.approx(0.25, rel=1e-4)
    assert diff(folder, "a", "noise", "--no-weights").exit_code == 0


def test_a_cast_is_said_and_is_a_difference(folder: Path) -> None:
    result = diff(folder, "a", "cast")
    assert result.exit_code == 1 and "cast from fp32 to bf16" in result.stdout


@pytest.mark.parametrize(("a", "b"), [("a", "tiny-moe"), ("tiny-moe", "a"), ("tiny-moe", "tiny-moe")])
def test_weights_of_one_side_are_compared_with_nothing(folder: Path, a: str, b: str) -> None:
    result = diff(folder, a, b)
    assert result.exit_code == 0 and "weights  " not in result.stdout
    assert ("weights not compared: tiny-moe has none" in result.stderr) == (a != b)
    assert "weights" not in told(folder, a, b)


@pytest.mark.parametrize("option", ["--json", ""])
def test_without_weights_none_are_read(folder: Path, tmp_path: Path, option: str) -> None:
    broken(folder / "a", tmp_path / "b", lambda text: text[:-100])
    result = diff(tmp_path, str(folder / "a"), "b", "--no-weights", *filter(None, [option]))
    assert result.exit_code == 0 and "parameters same" not in result.stdout


def broken(source: Path, folder: Path, spoil: Any) -> None:
    """A copy of a checkpoint with its shard spoiled."""
    folder.mkdir()
    for file in source.iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(spoil(content) if file.suffix == ".safetensors" else content)


@pytest.mark.parametrize("spoil", [lambda text: text[:-100], lambda text: b"", lambda text: b"\xff" * 64])
def test_a_broken_shard_is_one_line(folder: Path, tmp_path: Path, spoil: Any) -> None:
    broken(folder / "a", tmp_path / "b", spoil)
    status, line = trouble(folder / "a", tmp_path / "b", "--html", str(tmp_path / "d.html"))
    assert status == 2 and line.count("\n") == 1
    assert line.startswith("error: ") and str(tmp_path / "b") in line
    assert not (tmp_path / "d.html").exists()


def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path) -> None:
    broken(folder / "a", tmp_path / "b", lambda text: text)
    (shard,) = (tmp_path / "b").glob("*.safetensors")
    kept = load_file(shard)
    del kept["layers.1.mixer.router"]
    save_file(kept, shard)
    status, line = trouble(folder / "a", tmp_path / "b")
    assert status == 2 and line.startswith("error: ") and "layers.1.mixer.router" in line
    assert "Traceback" not in line


def trouble(a: Path, b: Path, *options: str) -> tuple[int, str]:
    """Exit status and standard error of `archc diff`, which printed nothing else."""
    command = [sys.executable, "-m", "archc", "diff", str(a), str(b), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == ""
    return run.returncode, run.stderr


def test_page_and_picture_tell_of_the_weights(folder: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "d.html", tmp_path / "d.svg"
    result = diff(folder, "a", "experts", "--html", str(page), "--svg", str(picture))
    assert (result.exit_code, result.stdout) == (1, "")
    scene = json.loads(Reader(page.read_text()).texts["script"][0])
    assert "experts 1, 5 removed from layer 1" in scene["weights"]
    check_picture(picture.read_text())
    assert "experts 1, 5 removed from layer 1" in words(picture.read_text())


def test_equal_models_with_other_weights_have_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "d.html"
    assert diff(folder, "a", "noise", "--html", str(page)).exit_code == 1
    scene = json.loads(Reader(page.read_text()).texts["script"][0])
    assert not scene["changes"] and "1 changed (relative norm 0.25)" in scene["weights"][0]


def test_python_has_what_the_command_has(folder: Path) -> None:
    from archc.comparison import weighed, without_weights

    both = weighed(folder / "deep", folder / "shallow")
    evidence = both.evidence()
    assert evidence and set(archc.load("tiny-mamba").blocks["layers"]) - set(evidence) == {"L0", "L5", "L6", "L11"}
    found = archc.diff(folder / "deep", folder / "shallow", evidence=evidence)
    compared = both.compared(found)
    assert {p.status for p in compared.params} == {"same"} and not compared.empty
    assert without_weights(str(folder / "deep"), "tiny-mamba") == ("tiny-mamba",)
    assert dataclasses.replace(compared, dropped=()).empty


def test_noise_of_many_layers_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    weights = {key: tensor + 0.01 * torch.randn_like(tensor) for key, tensor in read(folder / "a").items()}
    write(tmp_path / "b", archc.load("tiny-moe"), weights)
    lines = diff(tmp_path, str(folder / "a"), "b").stdout.splitlines()
    assert sum("up_proj of moe in layers 1, 3, 5, 7" in line for line in lines) == 1
    assert max(map(len, lines)) <= 120


def read(folder: Path) -> dict[str, Tensor]:
    weights = weights_of(folder)
    return {key: weights.read(key) for key in weights.shapes}
