"""Checkpoints that are truncated, corrupted or do not fit: one clear error, and no output left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from archc.compilation import compile_model
from archc.hub.checkpoint_dir import load_checkpoint
from archc.hub.export import export_checkpoint
from archc.hub.import_ import import_checkpoint
from archc.kernels.errors import ArchcError, GraphError, UnknownName, UnsupportedError, WeightError
from tests.hub.oracles import ORACLES, read_tensors, save


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a checkpoint of one file."""
    save_file(change(read_tensors(folder)), folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path, message: str) -> None:
    """The import fails with `message` and leaves nothing."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(WeightError, match=message):
        import_checkpoint(folder, folder.parent / "out")
    assert sorted(folder.parent.iterdir()) == before


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    save(ORACLES["nemotron_h-mtp"], tmp_path / "hf", sharded=False)
    return tmp_path / "hf"


def test_lost_and_unknown_tensors_are_listed_together(hf: Path) -> None:
    lost = "backbone.layers.1.mixer.experts.3.up_proj.weight"
    scale = "backbone.layers.0.mixer.in_proj.weight_scale"
    rewrite(hf, lambda t: {k: v for k, v in t.items() if k != lost} | {scale: torch.ones(1)})
    refused(hf, rf"\(2 tensors\):\nno place in the `nemotron_h` table: {scale}\nmissing: {lost}")


def test_mtp_tensors_without_mtp_in_the_config_are_not_dropped_in_silence(hf: Path) -> None:
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
    refused(hf, r"no place in the `nemotron_h` table: mtp\.layers\.0\.eh_proj\.weight")


def test_shapes_that_the_config_does_not_say_are_listed(hf: Path) -> None:
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(config | {"intermediate_size": 60, "moe_intermediate_size": 32}))
    refused(hf, r"experts\.0\.up_proj\.weight` has shape \[28, 24\], the config says \[32, 24\]")


def test_truncated_file(hf: Path) -> None:
    file = hf / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(hf, "truncated")


def test_missing_shard(tmp_path: Path) -> None:
    save(ORACLES["llama-tied-biased"], tmp_path / "hf")
    (tmp_path / "hf" / "model-00002-of-00006.safetensors").unlink()
    refused(tmp_path / "hf", "model-00002-of-00006")


def test_weights_that_are_no_numbers(hf: Path) -> None:
    rewrite(hf, lambda t: t | {"lm_head.weight": t["lm_head.weight"].to(torch.int8)})
    refused(hf, r"`lm_head.weight` is stored as int8")


def test_tied_head_with_values_of_its_own(tmp_path: Path) -> None:
    save(ORACLES["qwen3"], tmp_path / "hf")
    rewrite(tmp_path / "hf", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"] + 1})
    refused(tmp_path / "hf", "ties `lm_head.weight` to `model.embed_tokens.weight`, but")


def test_no_config_and_no_weights(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    refused(tmp_path / "hf", r"has no config\.json")
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "llama"}')
    refused(tmp_path / "hf", "expected model.safetensors")


def test_output_that_exists_is_not_replaced_unasked(hf: Path) -> None:
    out = hf.parent / "out"
    out.mkdir()
    (out / "precious").write_text("")
    with pytest.raises(ArchcError, match="not empty"):
        import_checkpoint(hf, out, overwrite=True)
    assert (out / "precious").exists()
    (out / "precious").unlink()
    import_checkpoint(hf, out)
    with pytest.raises(ArchcError, match="replace it with --overwrite"):
        import_checkpoint(hf, out)
    assert import_checkpoint(hf, out, overwrite=True).graph.name == "hf"


def test_rotary_tables_are_dropped_by_name(tmp_path: Path) -> None:
    save(ORACLES["llama"], tmp_path / "hf")
    table = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(tmp_path / "hf", lambda t: t | {table: torch.ones(5)})
    assert not any("rotary" in n for n in import_checkpoint(tmp_path / "hf", tmp_path / "out").tensors.names)


def test_opening_what_is_no_checkpoint(hf: Path) -> None:
    with pytest.raises(WeightError, match="import it first with `archc import`"):
        load_checkpoint(hf)


def test_opening_a_compiled_package_asks_for_its_checkpoint(hf: Path) -> None:
    package = hf.parent / "package"
    checkpoint = import_checkpoint(hf, hf.parent / "ckpt")
    compile_model(checkpoint.directory, package)
    with pytest.raises(WeightError, match=r"package: a compiled package, not a checkpoint: .* that it was compiled"):
        export_checkpoint(package, hf.parent / "out")
    with pytest.raises(WeightError, match=r"nowhere: not an archc checkpoint: no such folder"):
        load_checkpoint(hf.parent / "nowhere")


def test_checkpoint_whose_graph_does_not_hold_together(hf: Path) -> None:
    file = import_checkpoint(hf, hf.parent / "ckpt").directory / "model.ir"
    file.write_text(file.read_text().replace("formats weights=fp32", "formats watts=fp32"))
    with pytest.raises(GraphError, match=rf"^{file}: graph `hf` does not hold together:\n(.|\n)*watts"):
        load_checkpoint(file.parent)


def test_rules_that_a_config_breaks_leave_no_checkpoint(tmp_path: Path) -> None:
    save(ORACLES["qwen3_moe"], tmp_path / "hf")
    file = tmp_path / "hf" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_experts_per_tok": 20}))
    refused(tmp_path / "hf", rf"^{file}: `num_experts_per_tok` must not exceed `num_local_experts`")


def test_name_that_no_spec_may_have(hf: Path) -> None:
    with pytest.raises(ArchcError, match=r"`a b/c` cannot name a model: .* did you mean `a-b-c`\?"):
        import_checkpoint(hf, hf.parent / "out", name="a b/c")
    assert not (hf.parent / "out").exists()


def test_layout_in_origin_names_no_file_elsewhere(hf: Path) -> None:
    file = import_checkpoint(hf, hf.parent / "ckpt").directory / "origin.json"
    origin = json.loads(file.read_text())
    (names,) = origin["shards"].values()
    for shards in ({"../model.safetensors": names}, {"model.safetensors": 3}, ["model.safetensors"]):
        file.write_text(json.dumps(origin | {"shards": shards}))
        with pytest.raises(WeightError, match=r"origin\.json: "):
            load_checkpoint(file.parent)


def test_checkpoint_whose_weights_do_not_fit_its_graph(hf: Path) -> None:
    folder = import_checkpoint(hf, hf.parent / "ckpt").directory
    rewrite(folder, lambda t: {k: v for k, v in t.items() if k != "norm.weight"} | {"extra": torch.ones(2)})
    with pytest.raises(WeightError, match=r"`norm\.weight` is missing(.|\n)*`extra` is no weight"):
        load_checkpoint(folder)


def test_export_refuses_what_it_cannot_write(hf: Path) -> None:
    checkpoint = import_checkpoint(hf, hf.parent / "ckpt")
    with pytest.raises(UnknownName, match="did you mean `hf`"):
        export_checkpoint(checkpoint, hf.parent / "out", to="hff")
    with pytest.raises(UnknownName, match="did you mean `llama`"):
        export_checkpoint(checkpoint, hf.parent / "out", family="lama")
    with pytest.raises(UnsupportedError, match="mamba2"):
        export_checkpoint(checkpoint, hf.parent / "out", family="mamba2")
    assert not (hf.parent / "out").exists()
