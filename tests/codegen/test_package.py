"""The emitted package as files: alone without archc, clean, equal where it should be, and written safely."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from archc.codegen import emit_package, emit_sources
from archc.compilation import compile_model
from archc.emitted import import_emitted
from archc.hub.checkpoint import write_tensors
from archc.hub.safetensors_io import Outgoing
from archc.ir.build import MTP
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.op import registered_ops
from archc.ir.ops.moe import MoE
from archc.kernels.errors import ArchcError, GraphError, UnsupportedError, WeightError
from archc.resolve import load
from tests.codegen.conftest import ATTENTION, DRAFT, MAMBA, MLP_RELU2, block, model

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "ARCHC_UPDATE_GOLDENS"

ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("archc", "safetensors", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import torch
from {name} import Model, load

model = load(dtype=torch.float32)
tokens = torch.arange(12).view(2, 6)
state = model.new_state(2, 8)
full = model(tokens)
torch.testing.assert_close(model.prefill(tokens[:, :5], state), full[:, 4])
torch.testing.assert_close(model.decode(tokens[:, 5], state), full[:, 5])
full.square().mean().backward()
assert not any(name.partition(".")[0] == "archc" for name in sys.modules)
print(sum(p.numel() for p in model.parameters()))
"""


def test_every_op_is_covered(graphs: dict[str, Graph]) -> None:
    covered = {type(n.op) for graph in graphs.values() for n in graph.nodes}
    assert {cls.kind for cls in registered_ops()} == {cls.kind for cls in covered}


def test_runs_without_archc(compiled: Any) -> None:
    if compiled.graph.name not in ("everything", "tied_llama"):
        pytest.skip("two of them show it")
    code = ALONE.format(name=compiled.graph.name)
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=compiled.folder.parent,
        env={**os.environ, "PYTHONPATH": str(compiled.folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == sum(p.numel() for p in compiled.model.parameters())


def test_sources_are_clean(compiled: Any) -> None:
    check_with_ruff(compiled.folder)


def check_with_ruff(folder: Path) -> None:
    """As anyone would run it in the folder: the package says how wide its lines are."""
    for command in (["check", "--select", "E,F,I,UP,B,SIM"], ["format", "--check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, folder], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout


def test_nothing_anonymous_is_printed(compiled: Any) -> None:
    source = (compiled.folder / "modeling.py").read_text()
    assert "getitem" not in source
    assert " value = " not in source


def test_imports_stand_at_the_top(compiled: Any) -> None:
    for file in compiled.folder.glob("*.py"):
        for line in file.read_text().splitlines():
            assert not line.startswith((" import ", "    import ", "    from ")), f"{file.name}: {line}"


def test_a_matrix_that_is_not_out_by_in_says_so(graphs: dict[str, Graph]) -> None:
    source = emit_sources(graphs["everything"])["modeling.py"]
    down = "self.down_proj = nn.Parameter(torch.empty("
    assert f"        {down}d_model, d_ff))\n" in source
    assert f"        {down}experts, d_ff, d_model))  # [experts, d_ff in, d_model out]\n" in source
    assert f"        {down}experts, d_ff, latent))  # [experts, d_ff in, latent out]\n" in source


def test_same_graph_same_bytes(graphs: dict[str, Graph]) -> None:
    for graph in graphs.values():
        assert emit_sources(graph) == emit_sources(dataclasses.replace(graph))


def test_two_widths_differ_in_config_only(widths: tuple[Graph, Graph]) -> None:
    first, second = (emit_sources(graph, command="x") for graph in widths)
    assert {name for name in first if first[name] != second[name]} == {"config.json", "README.md", "graph.ir"}


@pytest.mark.parametrize("name", ["dense_hybrid", "everything"])
def test_golden(name: str, graphs: dict[str, Graph]) -> None:
    text = emit_sources(graphs[name])["modeling.py"]
    file = GOLDEN / f"{name}.py.txt"
    if os.environ.get(UPDATE):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"emitted source changed; if it should, run with {UPDATE}=1"


BUDGETS = {
    "llama-3.1-8b": 250,
    "mamba2-2.7b": 250,
    "qwen3-30b-a3b": 250,
    "gpt-oss-20b": 350,
    "nemotron-h-47b": 400,
    "nemotron-3-super-120b-a12b": 600,
    "tiny-hybrid": 600,
}


@pytest.mark.parametrize(("name", "lines"), BUDGETS.items())
def test_models_of_the_zoo_are_short_and_clean(name: str, lines: int, tmp_path: Path) -> None:
    folder = emit_package(load(name), tmp_path / "made")
    assert (folder / "modeling.py").read_text().count("\n") < lines
    check_with_ruff(folder)


FAMILIES = [
    ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-minitron-4b-width", "llama-3.1-minitron-4b-depth"),
    ("nemotron-h-8b", "nemotron-h-47b", "nemotron-nano-9b-v2"),
    ("nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"),
    ("gpt-oss-20b", "gpt-oss-120b"),
]


@pytest.mark.parametrize("names", FAMILIES, ids=lambda names: names[0])
def test_models_of_one_family_are_one_source(names: tuple[str, ...]) -> None:
    sources = [emit_sources(load(name)) for name in names]
    for file in sources[0]:
        if file.endswith(".py"):
            assert len({source[file] for source in sources}) == 1, file


def test_config_names_the_model(compiled: Any) -> None:
    config = json.loads((compiled.folder / "config.json").read_text())
    assert config["name"] == compiled.graph.name
    assert config["graph"] == compiled.graph.hash
    assert config["command"] == "test"
    assert len(config["layers"]) == len(compiled.graph.blocks["layers"])
    assert config["vocab"] == 101


# -- weights -----------------------------------------------------------------------------------------------------------


def test_shards_load_alike(compiled: Any, tmp_path: Path) -> None:
    folder = emit_package(compiled.graph, tmp_path / "sharded")
    tensors = (Outgoing.of(key, compiled.weights[key]) for key in compiled.graph.weight_shapes())
    write_tensors(folder, tensors, shard_bytes=20_000)
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    loaded = import_emitted(folder).load(dtype=torch.float32).state_dict()
    for key, value in compiled.weights.items():
        torch.testing.assert_close(loaded[key], value.float(), rtol=0, atol=0)


def test_weights_must_fit(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["tied_llama"]
    weights = init_weights(graph)
    del weights["norm.weight"]
    weights["layers.0.mixer.q_proj"] = torch.zeros(2, 2)
    with pytest.raises(WeightError, match=r"(?s)norm.weight: missing.*q_proj: \[2, 2\], expected"):
        compile_model(graph, tmp_path / "bad", weights=weights)
    assert not list(tmp_path.iterdir())
    with pytest.raises(WeightError, match="extra"):
        compile_model(graph, tmp_path / "bad", weights={**init_weights(graph), "extra": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_loading_without_or_with_broken_weights(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["mlp_only"]
    folder = emit_package(graph, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="has no weights: compile with --weights or --init"):
        import_emitted(folder).load()
    folder = compile_model(graph, folder, seed=0, overwrite=True)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="truncated or corrupted"):
        import_emitted(folder).load()


def test_state_takes_the_formats_of_the_graph(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = dataclasses.replace(graphs["dense_hybrid"], formats=(("kv", "fp8"), ("ssm", "bf16")))
    folder = compile_model(graph, tmp_path / "narrow", weights=init_weights(graph))
    model = import_emitted(folder).load()
    state = model.new_state(2, 8)
    mamba, _, attention, _ = state.layers
    assert (mamba.conv.dtype, mamba.ssm.dtype) == (torch.float32, torch.bfloat16)
    assert attention.k.dtype == attention.v.dtype == torch.float8_e4m3fn
    assert torch.isfinite(model.prefill(torch.arange(10).view(2, 5), state)).all()


def test_dtype_leaves_rotary_frequencies_exact(compiled: Any) -> None:
    model = compiled.package.load(dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for name, b in model.named_buffers() if name.endswith("inv_freq")} <= {torch.float32}


def test_weights_keep_their_dtype_and_the_formats_of_the_spec_do_not_matter(tmp_path: Path) -> None:
    graph = dataclasses.replace(model("mixed", [MAMBA, ATTENTION, MLP_RELU2]), formats=(("weights", "fp8"),))
    wide = [key for key in graph.weight_shapes() if key.endswith("A_log")]
    given = {key: value if key in wide else value.bfloat16() for key, value in init_weights(graph).items()}
    package = import_emitted(compile_model(graph, tmp_path / "mixed", weights=given))
    assert "each in the dtype it came in" in (tmp_path / "mixed" / "README.md").read_text()
    loaded = package.load()
    assert {k: v.dtype for k, v in loaded.state_dict().items()} == {k: v.dtype for k, v in given.items()}
    assert loaded(torch.arange(8).view(2, 4)).dtype == torch.bfloat16
    for dtype in (torch.float32, torch.float64):
        loaded = package.load(dtype=dtype)
        assert {v.dtype for v in loaded.state_dict().values()} == {dtype}
        assert loaded(torch.arange(8).view(2, 4)).dtype == dtype


# -- writing safely ----------------------------------------------------------------------------------------------------


def test_folder_must_be_a_name(graphs: dict[str, Graph], tmp_path: Path) -> None:
    for bad, better in (("llama-3.1-8b", "llama_3_1_8b"), ("8b", "model_8b"), ("class", "model_class"), ("é", "model")):
        with pytest.raises(ArchcError, match=f"is not an identifier: try `.*/{better}`"):
            emit_package(graphs["mlp_only"], tmp_path / bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "numpy", "safetensors", "archc", "json", "types", "_weakref"])
def test_folder_must_shadow_no_module(name: str, graphs: dict[str, Graph], tmp_path: Path) -> None:
    better = f"model_{name.strip('_')}"
    with pytest.raises(ArchcError, match=f"`{name}` would hide the module of that name: try `.*/{better}`"):
        emit_package(graphs["mlp_only"], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_only_a_package_is_replaced(graphs: dict[str, Graph], tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("years of work")
    with pytest.raises(ArchcError, match="is not a package that archc wrote"):
        emit_package(graphs["mlp_only"], mine)
    assert [f.name for f in mine.iterdir()] == ["chapter.tex"]
    folder = emit_package(graphs["dense_hybrid"], tmp_path / "made")
    (folder / "stale.safetensors").touch()
    with pytest.raises(ArchcError, match="made exists: --overwrite replaces it, with its weights"):
        emit_package(graphs["mlp_only"], folder)
    assert (folder / "stale.safetensors").exists()
    emit_package(graphs["mlp_only"], folder, overwrite=True)
    assert not (folder / "stale.safetensors").exists()
    assert json.loads((folder / "config.json").read_text())["name"] == "mlp_only"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["made", "thesis"]


def test_a_failure_leaves_the_earlier_package(graphs: dict[str, Graph], tmp_path: Path) -> None:
    folder = emit_package(graphs["mlp_only"], tmp_path / "made")
    before = {f.name: f.read_bytes() for f in folder.iterdir()}

    def fail(unfinished: Path) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        emit_package(graphs["dense_hybrid"], folder, fill=fail, overwrite=True)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert [f.name for f in tmp_path.iterdir()] == ["made"]


# -- hostile graphs ----------------------------------------------------------------------------------------------------

EVIL = '"""\nimport os\nos.abort()\n"""'


def test_a_hostile_name_reaches_no_source(graphs: dict[str, Graph]) -> None:
    sources = emit_sources(dataclasses.replace(graphs["everything"], name=EVIL))
    assert not any("abort" in text for name, text in sources.items() if name.endswith(".py"))
    assert json.loads(sources["config.json"])["name"] == EVIL


@pytest.mark.parametrize("role", ["x = 1; y", EVIL, "class", "forward", "training", "new_state"])
def test_hostile_roles_are_refused(role: str, graphs: dict[str, Graph]) -> None:
    graph = graphs["mlp_only"]
    renamed = {n.id: dataclasses.replace(n, role=role) if n.role == "mixer" else n for n in graph.nodes}
    ids = {old: new.id for old, new in renamed.items()}
    nodes = [dataclasses.replace(n, inputs=tuple(ids.get(i, i) for i in n.inputs)) for n in renamed.values()]
    with pytest.raises(GraphError, match="role"):
        emit_sources(dataclasses.replace(graph, nodes=tuple(nodes)))


def test_strings_of_ops_are_literals(graphs: dict[str, Graph]) -> None:
    graph = graphs["everything"]
    evil = {n.id: dataclasses.replace(n.op, score=EVIL) for n in graph.nodes if isinstance(n.op, MoE)}
    nodes = tuple(dataclasses.replace(n, op=evil[n.id]) if n.id in evil else n for n in graph.nodes)
    source = emit_sources(dataclasses.replace(graph, nodes=nodes))["modeling.py"]
    assert f"score={json.dumps(EVIL)}" in source
    assert "\nimport os" not in source


def test_a_model_that_looks_ahead_takes_whole_sequences(tmp_path: Path) -> None:
    layers = [MAMBA, block("attention", n_heads=4, n_kv_heads=2, head_dim=6, mask="bidirectional"), MLP_RELU2]
    graph = model("ahead", layers, mtp=DRAFT)
    folder = compile_model(graph, tmp_path / "ahead", weights=init_weights(graph))
    check_with_ruff(folder)
    assert "prefill" not in (folder / "modeling.py").read_text()
    loaded = import_emitted(folder).load()
    h = loaded.hidden(torch.arange(6)[None])
    assert len(loaded.mtp(h, torch.arange(6)[None])) == 2
    with pytest.raises(RuntimeError, match="cannot be fed piece by piece: BidirectionalAttention layers look ahead"):
        loaded.new_state(1, 8)


def test_steps_that_look_ahead_do_not_draft() -> None:
    ahead = block("attention", n_heads=4, n_kv_heads=2, head_dim=6, mask="bidirectional")
    source = emit_sources(model("ahead", [MAMBA], mtp=MTP(layers=[ATTENTION, ahead], steps=1)))
    assert "draft" not in source["modeling.py"] + source["state.py"]


def test_other_forms_are_refused(graphs: dict[str, Graph]) -> None:
    graph = graphs["dense_hybrid"]
    nodes = tuple(
        dataclasses.replace(n, inputs=("L0.add", *n.inputs[1:])) if n.id == "L2.add" else n for n in graph.nodes
    )
    with pytest.raises(UnsupportedError, match=r"block `L2` takes 2 values \(L1.add, L0.add\): expected one"):
        emit_sources(dataclasses.replace(graph, nodes=nodes))
