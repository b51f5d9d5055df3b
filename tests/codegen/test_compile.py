"""`archc compile`: where weights come from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, WeightError


def test_weights_and_files_of_a_checkpoint(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["dense_hybrid"]
    (tmp_path / "tokenizer.json").write_text("{}")
    weights = init_weights(graph, seed=3)
    write_checkpoint_dir(tmp_path / "ckpt", graph, weights, {"step": "test"}, files=tmp_path)
    folder = compile_model(graph, tmp_path / "made", weights=tmp_path / "ckpt", command="archc compile x")
    assert (folder / "tokenizer.json").read_text() == "{}"
    assert json.loads((folder / "config.json").read_text())["command"] == "archc compile x"
    loaded = load_emitted(folder).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_weights_from_a_seed(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["mlp_only"]
    loaded = load_emitted(compile_model(graph, tmp_path / "made", seed=5)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in init_weights(graph, seed=5).items())


def test_no_weights_is_an_architecture(graphs: dict[str, Graph], tmp_path: Path) -> None:
    folder = compile_model(graphs["mlp_only"], tmp_path / "made")
    assert not list(folder.glob("*.safetensors"))


def test_weights_of_another_model_are_refused(graphs: dict[str, Graph], tmp_path: Path) -> None:
    other = graphs["dense_hybrid"]
    write_checkpoint_dir(tmp_path / "ckpt", other, init_weights(other), {"step": "test"})
    message = r"(?s)ckpt are those of another model than `mlp_only`.*A_log: not in the model"
    with pytest.raises(WeightError, match=message):
        compile_model(graphs["mlp_only"], tmp_path / "made", weights=tmp_path / "ckpt")
    assert not (tmp_path / "made").exists()


def test_one_source_of_weights(graphs: dict[str, Graph], tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="give one of the two"):
        compile_model(graphs["mlp_only"], tmp_path / "made", weights=tmp_path, seed=1)
