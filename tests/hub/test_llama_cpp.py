"""Exports converted by llama.cpp's own converter and run by it: the same logits (needs `.ci/llama-cpp`)."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from archc import zoo
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.hub.config import read_config
from archc.hub.export import export_checkpoint
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.spec import load_spec
from archc.targets import check
from tests.hub.oracles import random_value

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "llama_cpp"
PROGRAM = ROOT / ".llama-cpp" / "logits"
LENGTH = 29
# fp32 against fp32 through ggml's kernels, in deviations of the logits; 2e-5 was measured.
TOLERANCE = 1e-4

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not PROGRAM.is_file(), reason="llama.cpp is not built: `.ci/llama-cpp` does it"),
]

CASES: dict[str, tuple[str, str, dict[int, dict[str, Any]]]] = {
    "llama": ("tiny-attention", "llama", {}),
    "dense": ("tiny-dense", "nemotron_h", {}),
    "experts": ("tiny-hybrid", "nemotron_h", {}),
    "latent experts and MTP": ("tiny-latent", "nemotron_h", {}),
    "uneven latent experts": (
        "tiny-latent",
        "nemotron_h_puzzle",
        {1: {"d_ff": 48, "top_k": 2}, 6: {"d_ff": 80, "top_k": 3}},
    ),
}


def graph_of(name: str, changes: dict[int, dict[str, Any]]) -> Graph:
    spec = load_spec(zoo.path(name))
    layers = (replace(b, fields=replace(b.fields, **changes.get(i, {}))) for i, b in enumerate(spec.layers))
    return replace(spec, layers=tuple(layers), formats=(("weights", "fp32"),)).graph()


def random_weights(graph: Graph) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {k: random_value(k, torch.empty(shape), generator) for k, shape in graph.weight_shapes().items()}


# What the rules refuse, each by one of them: llama.cpp fails, or takes no notice and computes something else.
REFUSED: dict[str, tuple[str, dict[int, dict[str, Any]]]] = {
    "experts": ("tiny-latent", {1: {"experts": 12}}),
    "latent width": ("tiny-latent", {1: {"latent": 32}}),
    "heads": ("tiny-latent", {3: {"n_heads": 8}}),
    "windows": ("tiny-latent", {3: {"window": 4}}),
    "dense width": ("tiny-dense", {1: {"d_ff": 64}}),
    "plain experts": ("tiny-hybrid", {1: {"d_ff": 64}}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits(case: str, tmp_path: Path) -> None:
    name, family, changes = CASES[case]
    graph = graph_of(name, changes)
    assert not check(graph, "llama.cpp")
    ours, theirs = both_logits(graph, tmp_path)
    assert read_config(tmp_path / "hf")["model_type"] == family
    torch.testing.assert_close(theirs, ours, atol=TOLERANCE * float(ours.std()), rtol=0)


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_rules_refuse_does_not_work(case: str, tmp_path: Path) -> None:
    name, changes = REFUSED[case]
    graph = graph_of(name, changes)
    assert check(graph, "llama.cpp")
    try:
        ours, theirs = both_logits(graph, tmp_path)
    except Failed:
        return
    assert float((ours - theirs).abs().max()) > 0.1 * float(ours.std())


class Failed(Exception):
    """A command of llama.cpp ended badly."""


def both_logits(graph: Graph, folder: Path) -> tuple[Tensor, Tensor]:
    """Logits [L, V] of some tokens by archc, and by llama.cpp of its export."""
    weights = random_weights(graph)
    write_checkpoint_dir(folder / "ckpt", graph, weights, {"step": "test"})
    export_checkpoint(load_checkpoint(folder / "ckpt"), folder / "hf")
    tokens = torch.randint(0, graph.dims["vocab"].size, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = execute(graph, weights, tokens, outputs=["logits"])["logits"][0]
    theirs = run_llama_cpp(folder / "hf", folder / "model.gguf", tokens[0].tolist())
    return ours, theirs.reshape(ours.shape)


def run_llama_cpp(folder: Path, file: Path, tokens: list[int]) -> Tensor:
    """Logits of every position, in one row after another."""
    (source,) = (ROOT / ".llama-cpp").glob("llama_cpp_python-*/vendor/llama.cpp")
    ran(sys.executable, HERE / "convert.py", source, folder, file)
    return torch.frombuffer(bytearray(ran(PROGRAM, file, *tokens)), dtype=torch.float32)


def ran(*command: object) -> bytes:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, timeout=600)
    if done.returncode:
        raise Failed(done.stderr.decode()[-3000:])
    return done.stdout
