"""Every family against transformers: tensors bit for bit there and back, and the same logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from archc.hub.checkpoint import Checkpoint
from archc.hub.checkpoint_dir import CheckpointDir, load_checkpoint, write_checkpoint_dir
from archc.hub.config import read_config
from archc.hub.export import export_checkpoint
from archc.hub.import_ import import_checkpoint
from archc.hub.safetensors_io import read_header
from archc.ir.execute import execute, new_state
from archc.spec import load_spec, spec_from_graph
from tests.hub.oracles import ORACLES, Oracle, read_tensors, save

BATCH, LENGTH = 2, 23
# fp32 against fp32, the sums in another order: logits have a deviation of 1.5 to 3.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """An oracle saved by transformers, imported, and what transformers says of some tokens."""

    oracle: Oracle
    folder: Path
    checkpoint: CheckpointDir
    tokens: Tensor
    logits: Tensor


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    oracle = ORACLES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = save(oracle, folder / "hf")
    tokens = torch.randint(0, oracle.config["vocab_size"], (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    return Case(oracle, folder, import_checkpoint(folder / "hf", folder / "ckpt"), tokens, logits_of(model, tokens))


each_family = pytest.mark.parametrize("case", ORACLES, indirect=True)


def logits_of(model: Callable[..., object], tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens).logits  # type: ignore[attr-defined]


def assert_same_tensors(a: Path, b: Path) -> None:
    one, other = Checkpoint(a), Checkpoint(b)
    assert set(one.names) == set(other.names)
    assert one.dtypes == other.dtypes
    assert all(one.read(name).equal(other.read(name)) for name in one.names)


@each_family
def test_logits(case: Case) -> None:
    """Full forward, prefill in pieces and token by token; transformers' full forward is the oracle of all three,
    because its own decoding of Mamba-2 leaves out a bound of the step size."""
    graph = case.checkpoint.graph
    weights = {k: w.float() if w.is_floating_point() else w for k, w in case.checkpoint.weights().items()}
    state = new_state(graph, BATCH, LENGTH)
    cuts = [0, 9, 10, 17, *range(18, LENGTH + 1)]
    with torch.no_grad():
        full = execute(graph, weights, case.tokens, outputs=["logits"])["logits"]
        pieces = [
            execute(graph, weights, case.tokens[:, a:b], state=state, outputs=["logits"])["logits"]
            for a, b in itertools.pairwise(cuts)
        ]
    torch.testing.assert_close(full, case.logits, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(torch.cat(pieces, dim=1), case.logits, atol=TOLERANCE, rtol=0)


@each_family
def test_export_returns_what_was_imported(case: Case, tmp_path: Path) -> None:
    export_checkpoint(case.checkpoint, tmp_path / "out")
    assert_same_tensors(case.folder / "hf", tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (case.folder / "hf" / name).read_bytes()


@each_family
def test_transformers_loads_what_was_exported(case: Case, tmp_path: Path) -> None:
    export_checkpoint(case.checkpoint, tmp_path / "out")
    options = {"quantization_config": transformers.Mxfp4Config(dequantize=True)} if case.oracle.packed else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, attn_implementation="eager", **options
    )
    assert type(model).__name__ == case.oracle.model_class
    torch.testing.assert_close(logits_of(model.float().eval(), case.tokens), case.logits, atol=0, rtol=0)


@each_family
def test_exported_config_means_the_same_to_transformers(case: Case, tmp_path: Path) -> None:
    export_checkpoint(case.checkpoint, tmp_path / "out")
    there, back = (transformers.AutoConfig.from_pretrained(p).to_dict() for p in (case.folder / "hf", tmp_path / "out"))
    del there["_name_or_path"]
    assert {k: back.get(k) for k in there} == there


@each_family
def test_export_keeps_shards_and_the_words_of_the_config(case: Case, tmp_path: Path) -> None:
    """nemotron_h alone has a spelling of its layers that every engine reads."""
    export_checkpoint(case.checkpoint, tmp_path / "out")
    assert shards(tmp_path / "out") == shards(case.folder / "hf")
    config = read_config(case.folder / "hf")
    layers = {"num_hidden_layers": len(case.checkpoint.graph.blocks["layers"])}
    assert read_config(tmp_path / "out") == (config | layers if case.oracle.family == "nemotron_h" else config)


def shards(folder: Path) -> dict[str, list[str]]:
    """The tensors of each file."""
    return {f.name: sorted(t.name for t in read_header(f)) for f in sorted(folder.glob("*.safetensors"))}


def test_export_of_other_tensors_than_were_imported_is_sharded_afresh(tmp_path: Path) -> None:
    save(ORACLES["qwen3-untied"], tmp_path / "hf")
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    spec = spec_from_graph(checkpoint.graph)
    graph = replace(spec, layers=spec.layers[:-2]).graph()
    weights = {k: w for k, w in checkpoint.weights().items() if k in graph.weight_shapes()}
    shorter = write_checkpoint_dir(tmp_path / "short", graph, weights, {"step": "drop"}, parent=checkpoint)
    export_checkpoint(shorter, tmp_path / "out")
    assert [f.name for f in tmp_path.glob("out/*.safetensors*")] == ["model.safetensors"]


@each_family
def test_spec_beside_the_weights_is_the_graph(case: Case) -> None:
    spec = load_spec(case.checkpoint.directory / "spec.yaml")
    assert spec.graph().hash == case.checkpoint.graph.hash
    assert spec == spec_from_graph(case.checkpoint.graph)


@each_family
def test_checkpoint_opens_again(case: Case) -> None:
    again = load_checkpoint(case.checkpoint.directory)
    assert again.graph == case.checkpoint.graph
    assert again.origin == case.checkpoint.origin
    assert [step["step"] for step in again.history] == ["import"]


@pytest.mark.parametrize("name", ["nemotron_h-mtp", "qwen3_moe-mixed"])
def test_fused_experts_are_read_and_written_back_fused(name: str, tmp_path: Path) -> None:
    """transformers holds experts as one tensor in memory, and some tools write them so."""
    save(ORACLES[name], tmp_path / "hf", sharded=False)
    apart = import_checkpoint(tmp_path / "hf", tmp_path / "apart")
    fuse(tmp_path / "hf")
    fused = import_checkpoint(tmp_path / "hf", tmp_path / "fused")
    assert_same_tensors(apart.directory, fused.directory)
    export_checkpoint(fused, tmp_path / "out")
    assert_same_tensors(tmp_path / "hf", tmp_path / "out")


def fuse(folder: Path) -> None:
    """Rewrite a checkpoint with the experts of each layer stacked, gate and up one after the other."""
    from safetensors.torch import save_file

    tensors = read_tensors(folder)
    stacks: dict[str, dict[int, Tensor]] = {}
    for name in [n for n in tensors if ".experts." in n]:
        prefix, _, rest = name.partition(".experts.")
        number, _, matrix = rest.removesuffix(".weight").partition(".")
        stacks.setdefault(f"{prefix}.experts.{matrix}", {})[int(number)] = tensors.pop(name)
    made = {name: torch.stack([parts[e] for e in range(len(parts))]) for name, parts in stacks.items()}
    for name in [n for n in made if n.endswith("gate_proj")]:
        up = made.pop(name.replace("gate_proj", "up_proj"))
        made[name.replace("gate_proj", "gate_up_proj")] = torch.cat([made.pop(name), up], dim=1)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    save_file({k: v.contiguous() for k, v in (tensors | made).items()}, folder / "model.safetensors")


def test_packed_experts_stay_packed(tmp_path: Path) -> None:
    save(ORACLES["gpt_oss-mxfp4"], tmp_path / "hf")
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    key = "layers.1.mixer.down_proj"
    assert checkpoint.tensors.dtypes[f"{key}.blocks"] == "uint8"
    assert checkpoint.packed[key].format == "mxfp4"
    assert checkpoint.weights()[key].dtype == torch.bfloat16
    assert dict(checkpoint.graph.node("L1.mixer").formats)["down_proj"] == "mxfp4"


def test_low_precision_and_mixed_storage_types_survive(tmp_path: Path) -> None:
    """bf16 weights with an fp32 correction bias, as Nemotron 3 has them."""
    oracle = ORACLES["nemotron_h-moe"]
    oracle.build().to(torch.bfloat16).save_pretrained(tmp_path / "hf")
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    assert dict(checkpoint.graph.formats)["weights"] == "bf16"
    kept = {k: t for k, t in checkpoint.tensors.dtypes.items() if t != "bf16"}
    assert set(kept) <= {"layers.1.mixer.correction_bias", "layers.4.mixer.correction_bias"}
    export_checkpoint(checkpoint, tmp_path / "out")
    assert_same_tensors(tmp_path / "hf", tmp_path / "out")


def test_tied_head_that_stands_in_the_file_is_checked_and_written_again(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save(ORACLES["qwen3"], tmp_path / "hf")
    tensors = read_tensors(tmp_path / "hf")
    save_file(
        tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, tmp_path / "hf/model.safetensors"
    )
    checkpoint = import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    assert "lm_head.weight" not in checkpoint.tensors
    export_checkpoint(checkpoint, tmp_path / "out")
    assert_same_tensors(tmp_path / "hf", tmp_path / "out")


def test_exported_nemotron_h_uses_the_patterns(tmp_path: Path) -> None:
    """Old engines read the patterns; transformers 5 reads both."""
    save(ORACLES["nemotron_h-mtp"], tmp_path / "hf")
    export_checkpoint(import_checkpoint(tmp_path / "hf", tmp_path / "ckpt"), tmp_path / "out")
    config = read_config(tmp_path / "out")
    assert (config["hybrid_override_pattern"], config["mtp_hybrid_override_pattern"]) == ("ME*ME", "*E")
    assert not {"layers_block_type", "layer_types", "mtp_layers_block_type"} & config.keys()


def test_layers_as_transformers_lists_them_are_exported_as_patterns(tmp_path: Path) -> None:
    oracle = ORACLES["nemotron_h-dense"]
    oracle.build().save_pretrained(tmp_path / "hf")
    source = read_config(tmp_path / "hf")
    assert "hybrid_override_pattern" not in source
    export_checkpoint(import_checkpoint(tmp_path / "hf", tmp_path / "ckpt"), tmp_path / "out")
    config = read_config(tmp_path / "out")
    assert config["hybrid_override_pattern"] == "M-*M-"
    lists = {"layers_block_type", "layer_types"}
    assert {k: v for k, v in config.items() if k in source} == {k: v for k, v in source.items() if k not in lists}
    there, back = (transformers.AutoConfig.from_pretrained(tmp_path / p).layer_types for p in ("hf", "out"))
    assert there == back
