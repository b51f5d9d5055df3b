"""`archc show --stats`: what the tensors of a checkpoint, a package or a Hugging Face folder are like."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.hub.weights import weights_of
from archc.ir.init import init_weights
from archc.kernels.errors import WeightError
from archc.resolve import load
from archc.viz.statistics import moments_of, print_statistics, statistics
from tests.front.screens import Screen, archc, lines


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of tiny-dense whose layer 0 has a NaN, an infinity and zeros."""
    folder, graph = tmp_path_factory.mktemp("stats") / "ckpt", load("tiny-dense")
    weights = init_weights(graph, seed=1)
    weights["layers.0.mixer.D"][:3] = torch.tensor([math.nan, -math.inf, 0.0])
    write_checkpoint_dir(folder, graph, weights, {"step": "test"})
    return folder


def tensors(*arguments: object) -> dict[str, Any]:
    """What `--stats --json` says of each tensor."""
    return {one["tensor"]: one for one in json.loads(archc("show", *arguments, "--stats", "--json"))["tensors"]}


def test_statistics_are_torch_s(checkpoint: Path) -> None:
    found, weights = tensors(checkpoint), load_checkpoint(checkpoint).weights()
    assert found.keys() == weights.keys()
    for key, tensor in weights.items():
        finite = tensor[tensor.isfinite()].double()
        one = found[key]
        assert one["mean"] == pytest.approx(float(finite.mean()), abs=1e-12)
        assert one["std"] == pytest.approx(float(finite.std(correction=0)), abs=1e-12)
        assert one["abs_max"] == float(finite.abs().max())
        assert one["zeros"] == float((tensor == 0).double().mean())
        assert (one["nans"], one["infs"]) == (int(tensor.isnan().sum()), int(tensor.isinf().sum()))


def test_large_tensors_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1000, dtype=torch.float64) * 1e-3 + 1e3
    monkeypatch.setattr("archc.viz.statistics._PIECE", 77)
    moments = moments_of(values.view(10, 100))
    assert moments.finite == 1000 and moments.mean == pytest.approx(float(values.mean()), rel=1e-14)
    assert math.sqrt(moments.squares / 1000) == pytest.approx(float(values.std(correction=0)), rel=1e-9)


def test_foreign_folders_and_packages_have_the_same_statistics(checkpoint: Path, tmp_path: Path) -> None:
    archc("export", checkpoint, "-o", tmp_path / "hf")
    archc("compile", checkpoint, "-o", tmp_path / "package")
    assert tensors(tmp_path / "hf") == tensors(checkpoint) == tensors(tmp_path / "package")


def test_statistics_are_grouped_and_each_of_one_layer_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(checkpoint)
    found = list(statistics(weights, weights.graph.nodes))
    shown = lines(Screen(monkeypatch).shows(functools.partial(print_statistics, each=False), weights.graph.name, found))
    assert "M mamba2 in_proj" in [" ".join(line.split()[:3]) for line in shown]
    assert shown[-1] == "layers.0.mixer.D: 1 NaN, 1 infinite"
    one = lines(archc("show", checkpoint, "--stats", "--layer", 1))
    assert [line.split()[0] for line in one if line.startswith("layers.")] == [
        "layers.1.norm.weight", "layers.1.mixer.up_proj", "layers.1.mixer.down_proj"
    ]  # fmt: skip
    assert one[-1] == "no NaN, no infinity"
    assert list(tensors(checkpoint, "--op", "lm_head")) == ["lm_head.weight"]


def test_what_has_no_weights_is_told_so() -> None:
    with pytest.raises(
        WeightError, match="tiny-dense holds no weights, there is no such folder: expected an archc checkpoint"
    ):
        archc("show", "tiny-dense", "--stats")
