"""Weights compared: what was cut out of random weights by Selections is found again, and nothing else is claimed."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import archc
from archc.compilation import compile_model
from archc.hub.checkpoint_dir import new_checkpoint, write_checkpoint_dir
from archc.hub.compare import WeightsDiff, compare_weights, evidence
from archc.hub.import_ import import_checkpoint
from archc.hub.stream import run_into
from archc.hub.weights import Weights, weights_of
from archc.ir.align import align
from archc.ir.diff_pairs import Paired
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.selection import Selection, Selections, keep
from archc.ir.slicing import select
from archc.ir.verify import verify
from archc.kernels.errors import WeightError
from archc.spec import spec_from_graph
from tests.hub.oracles import ORACLES, save

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Weights]:
    """Small models of every kind, random in fp32; norms are ones and biases zeros, as in life."""
    folder = tmp_path_factory.mktemp("models")
    return {
        name: written(folder / name, archc.load(f"tiny-{name}"))
        for name in ("hybrid", "latent", "moe", "dense", "mamba")
    }


def written(folder: Path, graph: Graph, weights: Tensors | None = None) -> Weights:
    write_checkpoint_dir(folder, graph, init_weights(graph) if weights is None else weights, {"step": "test"})
    return weights_of(folder)


def tensors(weights: Weights) -> Tensors:
    return {key: weights.read(key) for key in weights.shapes}


def cut(a: Weights, folder: Path, *chosen: Selection) -> Weights:
    """A's weights with some units only, streamed into a checkpoint."""
    graph, weight_map = select(a.graph, Selections(list(chosen)))
    with new_checkpoint(folder, graph, {"step": "test"}) as staging:
        run_into(staging, weight_map, a.tensors)
    return weights_of(folder)


def compared(a: Weights, b: Weights, **pairs: str | None) -> WeightsDiff:
    """The comparison with nodes paired by id, but for `pairs`."""
    return compare_weights(a, b, {n.id: n.id for n in b.graph.nodes} | pairs)


def found(diff: WeightsDiff) -> dict[str, Selection]:
    return {one.dim: one.selection for one in diff.units}


def check(a: Weights, b: Weights, *chosen: Selection) -> WeightsDiff:
    """B is A with `chosen` units: just that is found, and every parameter is the same or sliced."""
    diff = compared(a, b)
    assert found(diff) == {s.dim.name: s for s in chosen}
    assert {p.key: p.status for p in diff.params if p.status not in ("same", "sliced")} == {}
    touched = {s.dim.name for s in chosen}
    for param in diff.of("sliced"):
        assert param.dims
        assert set(param.dims) <= touched
    return diff


# -- what is cut is found ----------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)


def some(graph: Graph, name: str, count: int, *, order: bool = False) -> Selection:
    """`count` random units of a dim, others for every outer unit; in their order unless `order` is to change."""
    dim = graph.dims[name]
    rows = [RANDOM.permutation(dim.size)[:count] for _ in range(max(dim.rows, 1))]
    return keep(dim, np.stack([row if order else np.sort(row) for row in rows]))


@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize(
    ("model", "name", "count"),
    [
        ("hybrid", "d_model", 96),
        ("hybrid", "L1.mixer.experts", 5),
        ("hybrid", "L1.mixer.d_ff", 100),
        ("hybrid", "L1.mixer.shared_d_ff", 64),
        ("hybrid", "L3.mixer.n_kv_heads", 1),
        ("hybrid", "L3.mixer.queries_per_kv", 1),
        ("hybrid", "L3.mixer.head_dim", 24),
        ("hybrid", "L0.mixer.n_groups", 1),
        ("hybrid", "L0.mixer.heads_per_group", 1),
        ("hybrid", "L0.mixer.head_dim", 48),
        ("hybrid", "L0.mixer.d_state", 16),
        ("hybrid", "M1.mixer.experts", 4),
        ("latent", "L1.mixer.latent", 48),
        ("moe", "L1.mixer.d_ff", 130),
        ("dense", "L1.mixer.d_ff", 500),
        ("mamba", "d_model", 128),
    ],
)
def test_one_dim(models: Mapping[str, Weights], tmp_path: Path, model: str, name: str, count: int, order: bool) -> None:
    a = models[model]
    chosen = some(a.graph, name, count, order=order)
    check(a, cut(a, tmp_path / "b", chosen), chosen)


def test_permutations_of_dims_that_keep_their_size(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["hybrid"]
    names = ("d_model", "L1.mixer.experts", "L1.mixer.d_ff", "L3.mixer.n_kv_heads", "L0.mixer.heads_per_group")
    sizes = {"L0.mixer.heads_per_group": [1, 0], "L3.mixer.n_kv_heads": [1, 0]}
    chosen = [
        keep(a.graph.dims[n], sizes[n]) if n in sizes else some(a.graph, n, a.graph.dims[n].size, order=True)
        for n in names
    ]
    diff = check(a, cut(a, tmp_path / "b", *chosen), *chosen)
    assert "d_model reordered" in diff.words()


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize("model", ["hybrid", "latent", "moe", "dense", "mamba"])
def test_many_dims_at_once(models: Mapping[str, Weights], tmp_path: Path, model: str, cast: bool) -> None:
    """Random units in random order of two thirds of all dims, others for every outer unit, and perhaps cast to bf16."""
    a = models[model]
    chosen = Selections()
    for name, dim in a.graph.dims.items():
        if dim.order == "free" and RANDOM.random() < 2 / 3:
            size = int(RANDOM.integers(dim.size // 2, dim.size, endpoint=True)) or 1
            rows = [RANDOM.permutation(dim.size)[:size] for _ in range(math.prod(chosen.size(d) for d in dim.outer))]
            chosen = Selections({**chosen, name: keep(dim, np.stack(rows))})
    graph, weight_map = select(a.graph, chosen)
    weights = {k: t.bfloat16() if cast else t for k, t in weight_map.apply(tensors(a)).items()}
    b = written(tmp_path / "b", graph, weights)
    check(a, b, *(s for s in chosen.values() if not s.is_identity))


def test_a_smaller_vocabulary_beside_a_narrower_stream(models: Mapping[str, Weights], tmp_path: Path) -> None:
    """Neither axis of the embedding is known when it is met first."""
    a = models["dense"]
    chosen = some(a.graph, "d_model", 100)
    b = cut(a, tmp_path / "b", chosen)
    short = archc.load("tiny-dense").with_dims(lambda d: keep_size(d, {"vocab": 300, "d_model": 100}))
    weights = {key: t[:300] if t.shape[0] == 320 else t for key, t in tensors(b).items()}
    diff = compared(a, written(tmp_path / "c", short, weights))
    assert found(diff) == {"d_model": chosen, "vocab": keep(a.graph.dims["vocab"], range(300))}
    assert not diff.of("resized")


def keep_size(dim: Any, sizes: Mapping[str, int]) -> Any:
    return type(dim)(dim.name, sizes[dim.name], dim.within, dim.order) if dim.name in sizes else dim


def test_layers_that_went_by_the_evidence_of_their_weights(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["dense"]
    graph, weight_map = archc.apply(a.graph, "drop-layers{layers=(2,3,9)}")
    b = written(tmp_path / "b", spec_from_graph(graph).graph(), weight_map.apply(tensors(a)))
    kept = [name for name in a.graph.blocks["layers"] if name not in ("L2", "L3", "L9")]
    same = evidence(a, b)
    assert same == {name: f"L{i}" for i, name in enumerate(kept)}
    blocks = {theirs: ours for ours, theirs in same.items()}
    pairs = {n.id: f"{blocks[n.block]}.{n.role}" if n.block else n.id for n in b.graph.nodes}
    diff = compare_weights(a, b, pairs)
    assert {p.status for p in diff.params} == {"same"}
    assert len(diff.dropped) == sum(1 for n, _ in a.graph.params() if n.block in ("L2", "L3", "L9"))
    assert diff.words() == [f"{len(diff.params)} parameters same, {len(diff.dropped)} of A dropped"]


def test_the_evidence_decides_which_of_equal_layers_went(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["mamba"]  # twelve layers of one size
    graph, weight_map = archc.apply(a.graph, "drop-layers{layers=(0,5,6,11)}")
    b = written(tmp_path / "b", spec_from_graph(graph).graph(), weight_map.apply(tensors(a)))
    aligned = Paired(a.graph, b.graph, align(a.graph, b.graph, evidence(a, b)))
    diff = compare_weights(a, b, {theirs: ours for ours, theirs in aligned.b_of.items()})
    assert {p.status for p in diff.params} == {"same"}
    assert {key.split(".")[1] for key in diff.dropped} == {"0", "5", "6", "11"}


def test_blocks_with_the_same_weights_are_no_evidence(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["dense"]
    weights = tensors(a)
    twins = weights | {k.replace("layers.2.", "layers.0."): t for k, t in weights.items() if k.startswith("layers.2.")}
    b = written(tmp_path / "b", a.graph, twins)
    assert evidence(a, b) == {name: name for name in a.graph.blocks["layers"] if name not in ("L0", "L2")}


def test_a_dim_that_layers_of_the_second_share(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["dense"]
    names = [name for name in a.graph.dims if name.endswith(".d_ff")]
    rows = RANDOM.permutation(768)[:400]
    b = cut(a, tmp_path / "b", *(keep(a.graph.dims[name], rows) for name in names[:1]))
    shared = {name: b.graph.dims[names[0]] for name in names}
    linked = verify(b.graph.with_dims(lambda dim: shared.get(dim.name, dim)))
    weights = dict(tensors(b))
    for name in names[1:]:
        scope = a.graph.scopes[name.removesuffix(".d_ff")]
        weights[f"{scope}.up_proj"] = weights[f"{scope}.up_proj"][np.flip(rows).copy()]
        weights[f"{scope}.down_proj"] = weights[f"{scope}.down_proj"][:, np.flip(rows).copy()]
    diff = compared(a, written(tmp_path / "c", linked, weights))
    assert {p.status for p in diff.params} == {"same", "sliced"}
    assert [one.selection.dim.name for one in diff.units] == names
    assert all(one.dim == names[0] for one in diff.units)


# -- what changed ------------------------------------------------------------------------------------------------------


def test_noise_has_its_norm(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["hybrid"]
    weights = tensors(a)
    noisy = {}
    for key, scale in {
        "layers.1.mixer.up_proj": 0.3,
        "layers.3.mixer.q_proj": 0.012,
        "layers.6.mixer.up_proj": 0.1,
    }.items():
        noise = torch.randn(weights[key].shape, generator=torch.Generator().manual_seed(1))
        noisy[key] = weights[key] + noise * (scale * weights[key].norm() / noise.norm())
    diff = compared(a, written(tmp_path / "b", a.graph, weights | noisy))
    assert {p.key: round(p.norm or 0, 4) for p in diff.of("changed")} == {
        "layers.1.mixer.up_proj": 0.3,
        "layers.3.mixer.q_proj": 0.012,
        "layers.6.mixer.up_proj": 0.1,
    }
    assert len(diff.of("same")) == len(weights) - 3
    assert diff.words() == [
        f"{len(weights) - 3} parameters same, 3 changed (relative norm 0.012 to 0.3)",
        "changed: up_proj of moe in layers 1, 6 (relative norm 0.1 to 0.3)",
        "changed: q_proj of attention in layer 3 (relative norm 0.012)",
    ]


def test_a_model_trained_further_has_changed_everywhere(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["latent"]
    trained = {key: t + 0.01 * torch.randn_like(t) for key, t in tensors(a).items()}
    diff = compared(a, written(tmp_path / "b", a.graph, trained))
    assert {p.status for p in diff.params} == {"changed"}
    assert not diff.units


def test_what_changed_beside_what_was_cut(models: Mapping[str, Weights], tmp_path: Path) -> None:
    """One changed parameter hides neither the slices of the others nor its own norm where it keeps its shape."""
    a = models["dense"]
    chosen = [some(a.graph, "L1.mixer.d_ff", 500), some(a.graph, "L3.mixer.d_ff", 768, order=True)]
    b = cut(a, tmp_path / "b", *chosen)
    weights = tensors(b)
    for key in ("layers.1.mixer.up_proj", "layers.3.mixer.up_proj"):
        weights[key] = weights[key] * 1.5
    diff = compared(a, written(tmp_path / "c", b.graph, weights))
    assert found(diff) == {s.dim.name: s for s in chosen}
    assert [p.key for p in diff.of("resized")] == ["layers.1.mixer.up_proj"]
    assert {p.key: round(p.norm or 0, 6) for p in diff.of("changed")} == {"layers.3.mixer.up_proj": 0.5}
    assert {p.key for p in diff.of("sliced")} == {"layers.1.mixer.down_proj", "layers.3.mixer.down_proj"}


def test_what_has_no_slice_is_not_guessed(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["dense"]
    b = cut(a, tmp_path / "b", some(a.graph, "L1.mixer.d_ff", 500))
    weights = {k: torch.randn_like(t) if k.startswith("layers.1.mixer") else t for k, t in tensors(b).items()}
    diff = compared(a, written(tmp_path / "c", b.graph, weights))
    assert [p.key for p in diff.of("resized")] == ["layers.1.mixer.up_proj", "layers.1.mixer.down_proj"]
    assert not diff.units


def test_a_cast_is_no_change(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["dense"]
    chosen = some(a.graph, "d_model", 100, order=True)
    narrow = {key: t.bfloat16() for key, t in tensors(cut(a, tmp_path / "b", chosen)).items()}
    b = written(tmp_path / "c", select(a.graph, [chosen])[0], narrow)
    diff = check(a, b, chosen)
    assert {p.dtypes for p in diff.params} == {("fp32", "bf16")}
    assert f"cast from fp32 to bf16: {len(diff.params)} of them" in diff.words()
    wide = written(tmp_path / "d", b.graph, {key: t.float() for key, t in narrow.items()})
    assert {p.status for p in compared(b, wide).params} == {"same"}


def test_units_that_are_equal_give_no_wrong_answer(models: Mapping[str, Weights], tmp_path: Path) -> None:
    weights = tensors(models["moe"])
    for name in ("up_proj", "gate_proj", "down_proj"):
        weights[f"layers.1.mixer.{name}"][:, 10:30] = 0  # units that are dead in all of them
        weights[f"layers.3.mixer.{name}"][2:5] = 0  # whole experts, told apart by the router
    weights["layers.3.mixer.up_proj"][:, 40:60] = 0  # units that one of them cannot tell apart
    a = written(tmp_path / "a", models["moe"].graph, weights)
    dims = a.graph.dims
    chosen = [
        keep(dims["L1.mixer.d_ff"], [*range(200, 256), *range(5, 25)]),
        keep(dims["L3.mixer.experts"], [7, 3, 2, 0]),
        keep(dims["L3.mixer.d_ff"], [[*range(59, 30, -1)]] * 4),
    ]
    diff = compared(a, cut(a, tmp_path / "b", *chosen))
    assert {p.status for p in diff.params} == {"same", "sliced"}
    mine = found(diff)
    assert mine["L3.mixer.experts"] == chosen[1]
    assert mine["L3.mixer.d_ff"].index[0].tolist() == chosen[2].index[0].tolist()
    assert mine["L1.mixer.d_ff"].index[:, :61].tolist() == chosen[0].index[:, :61].tolist()
    assert {*mine["L1.mixer.d_ff"].index[0, 61:].tolist()} <= {*range(10, 30)}


def test_constant_weights(models: Mapping[str, Weights], tmp_path: Path) -> None:
    """Nothing tells units apart: any slice is a slice, and the first ones are taken."""
    graph = archc.load("tiny-dense")
    a = written(tmp_path / "a", graph, {k: torch.full(s, 0.5) for k, s in graph.weight_shapes().items()})
    b = cut(a, tmp_path / "b", keep(graph.dims["L1.mixer.d_ff"], range(50, 250)))
    diff = compared(a, b)
    assert {p.status for p in diff.params} == {"same", "sliced"}
    assert found(diff) == {"L1.mixer.d_ff": keep(graph.dims["L1.mixer.d_ff"], range(200))}


def test_nodes_that_stand_for_nothing_or_for_another_kind(models: Mapping[str, Weights]) -> None:
    a = models["dense"]
    diff = compared(a, a, **{"L1.mixer": None, "L0.mixer": "L3.mixer"})
    assert {p.key.rpartition(".")[0] for p in diff.of("new")} == {"layers.0.mixer", "layers.1.mixer"}
    assert {p.status for p in diff.params} == {"same", "new"}
    assert len(diff.dropped) == len(diff.of("new"))


def test_one_block_is_in_memory_at_a_time(
    models: Mapping[str, Weights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = models["dense"]
    b = cut(a, tmp_path / "b", some(a.graph, "d_model", 100))
    alive, peak, read = 0, 0, Weights.read

    def gone(nbytes: int) -> None:
        nonlocal alive
        alive -= nbytes

    def counted(weights: Weights, key: str) -> Tensor:
        nonlocal alive, peak
        tensor = read(weights, key)
        alive += tensor.nbytes
        peak = max(peak, alive)
        weakref.finalize(tensor, gone, tensor.nbytes)
        return tensor

    monkeypatch.setattr(Weights, "read", counted)
    assert {p.status for p in compared(a, b).params} == {"same", "sliced"}
    blocks: dict[str, int] = {}
    for node, param in a.graph.params():
        sizes = (w.nbytes(f"{w.graph.scopes[node.id]}.{param.name}") for w in (a, b))
        blocks[node.block or node.id] = blocks.get(node.block or node.id, 0) + sum(sizes)
    assert peak == max(blocks.values())


# -- words and JSON ----------------------------------------------------------------------------------------------------


def test_the_words_are_those_of_a_person(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["hybrid"]
    dims = a.graph.dims
    chosen = [
        some(a.graph, "d_model", 96),
        keep(dims["L1.mixer.experts"], [0, 1, 2, 3, 4, 6]),
        *(keep(dims[f"{block}.mixer.shared_d_ff"], range(96)) for block in ("L4", "L6", "M1")),
        some(a.graph, "L4.mixer.d_ff", 100, order=True),
    ]
    diff = check(a, cut(a, tmp_path / "b", *chosen), *chosen)
    assert diff.words() == [
        f"{len(diff.of('same'))} parameters same, {len(diff.of('sliced'))} sliced",
        "d_model keeps 96 of 128 units",
        "experts 5, 7 removed from layer 1",
        "layer 4: d_ff keeps 100 of 192 units of moe, reordered",
        "layers 4, 6: shared_d_ff keeps 96 of 192 units of moe",
        "MTP layer 1: shared_d_ff keeps 96 of 192 units of moe",
    ]
    document = json.loads(json.dumps(diff.to_json()))
    assert len(document["params"]) == len(diff.params)
    experts = next(one for one in document["units"] if one["dim"] == "L1.mixer.experts")
    assert experts == {
        "dim": "L1.mixer.experts", "from": "L1.mixer.experts", "role": "experts", "kind": "moe", "region": "layers",
        "position": 1, "size": 8, "new_size": 6, "kept": ["0:5,6"],
    }  # fmt: skip


# -- what holds weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss-mxfp4", "nemotron_h-mtp", "mamba2"])
def test_a_foreign_folder_holds_what_is_imported_from_it(tmp_path: Path, name: str) -> None:
    save(ORACLES[name], tmp_path / "hf")
    import_checkpoint(tmp_path / "hf", tmp_path / "ckpt")
    a, b = weights_of(tmp_path / "hf"), weights_of(tmp_path / "ckpt")
    diff = compared(a, b)
    assert diff.empty
    assert diff.words() == [f"{len(b.shapes)} parameters same"]
    assert evidence(a, b) == {block: block for blocks in b.graph.blocks.values() for block in blocks}


def test_a_package_holds_what_it_was_compiled_with(models: Mapping[str, Weights], tmp_path: Path) -> None:
    a = models["mamba"]
    package = compile_model(str(a.tensors.directory), tmp_path / "package")
    assert compared(a, weights_of(package)).empty


@pytest.mark.parametrize("made", ["nothing", "package", "config"])
def test_what_holds_none(tmp_path: Path, made: str) -> None:
    folder = tmp_path / "model"
    if made == "package":
        compile_model("tiny-dense", folder)
    else:
        folder.mkdir()
    if made == "config":
        (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(WeightError, match=str(folder)):
        weights_of(folder)
