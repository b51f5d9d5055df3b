"""The diff: what it says of known pairs, worked out by hand from their specs, and what holds of any two graphs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from archc.hardware import load_hardware
from archc.ir.build import MTP, Block, Norm, build_model
from archc.ir.cost import cost_sheet
from archc.ir.diff import Diff, diff
from archc.ir.graph import Graph
from archc.ir.op import Op
from archc.ir.ops.attention import Attention, Rope
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.text import parse_graph, print_graph
from archc.passes import apply
from archc.resolve import load
from archc.testing import graphs
from archc.testing.strategies import block_ops, renamed

A10G = load_hardware("a10g")
MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def words(found: Diff) -> list[str]:
    return [change.words for change in found.changes]


def model(*layers: Block, **options: Any) -> Graph:
    return build_model(name="m", layers=layers, **{"d_model": 32, "vocab": 64, **options})


def mlp(d_ff: int, **options: Any) -> Block:
    return "mlp", MLP.Fields(d_ff=d_ff, **options)


def attention(n_heads: int = 4, **options: Any) -> Block:
    return "attention", Attention.Fields(n_heads=n_heads, head_dim=8, **options)


MAMBA: Block = ("mamba2", Mamba2.Fields(n_heads=8, head_dim=4, d_state=4, n_groups=2))

# -- known pairs -------------------------------------------------------------------------------------------------------


def test_nano_12b_to_9b() -> None:
    """12B is six rounds of M-M-M-M*- and M-M-M-M-. 9B lacks the first attention with the MLP after it, a Mamba-2 and an
    MLP of the three before its second attention, the sixth attention, and an MLP before that."""
    found = diff(load("nemotron-nano-12b-v2"), load("nemotron-nano-9b-v2"))
    assert words(found) == [
        "dropped: layers 7-8 (attention, mlp), 48 (mlp), 52 (attention); 2 of layers 17-24, such as 20-21"
        " (1 mamba2, 1 mlp; which of them, structure does not tell)",
        "d_model 5120 -> 4480 everywhere",
        "d_ff 20480 -> 15680 in 25 of 25 mlp layers",
    ]
    attention_params = 5120 * (5120 + 1024 + 1024 + 5120) + 5120
    mlp_params = 2 * 20480 * 5120 + 5120
    rows, channels = 2 * 10240 + 2 * 1024 + 128, 10240 + 2 * 1024
    mamba_params = 5120 * (rows + 10240) + 5 * channels + 3 * 128 + 10240 + 5120
    first, _, last = (stage.added["params"] for stage in found.effect.stages)
    assert first == -(2 * attention_params + 3 * mlp_params + mamba_params)
    assert last == -25 * 2 * 4480 * (20480 - 15680)


def test_h_8b_to_4b() -> None:
    found = diff(load("nemotron-h-8b"), load("nemotron-h-4b"))
    assert words(found) == [
        "d_model 4096 -> 3072 everywhere",
        "n_heads 128 -> 112 in 24 of 24 mamba2 layers",
        "d_ff 21504 -> 12288 in 24 of 24 mlp layers",
    ]
    assert found.effect.stages[2].added["params"] == -24 * 2 * 3072 * (21504 - 12288)
    assert {row.status for row in found.rows if row.a_kind == "attention"} == {"same"}


def test_h_56b_to_47b() -> None:
    """56B has 54 Mamba-2, 54 MLPs and 10 attentions, 47B 45, 48 and 5; the first attention of 56B, after four Mamba-2,
    can be none of 47B's, the first of which comes after nine."""
    dropped, width = diff(load("nemotron-h-56b"), load("nemotron-h-47b")).changes
    kinds = [edit.old for edit in dropped.edits]
    assert dropped.kind == "dropped"
    assert {kind: kinds.count(kind) for kind in kinds} == {"mamba2": 9, "mlp": 6, "attention": 5}
    assert dropped.words.startswith("dropped: layers 7, ")
    assert width.words == "d_ff 32768 -> 30720 in 48 of 48 mlp layers"


def test_llama_8b_to_depth_pruned() -> None:
    found = diff(load("llama-3.1-8b"), load("llama-3.1-minitron-4b-depth"))
    assert words(found) == [
        "dropped: 32 of layers 0-63, such as 29-60 (16 attention, 16 mlp; which of them, structure does not tell)"
    ]
    pair = 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 14336 * 4096 + 2 * 4096
    assert found.effect.stages[0].added["params"] == -16 * pair


def test_drop_layers_is_told_exactly_through_lineage() -> None:
    """Among 32 equal pairs, and after the text form."""
    graph = load("llama-3.1-8b")
    made = parse_graph(print_graph(apply(graph, "drop-layers{layers=(22, 23, 40, 41, 43)}")[0]))
    assert words(diff(graph, made)) == ["dropped: layers 22-23, 40-41 (attention, mlp), 43 (mlp)"]
    assert words(diff(made, graph)) == ["added: layers 22-23, 40-41 (attention, mlp), 43 (mlp)"]


# -- what is said ------------------------------------------------------------------------------------------------------

BASE = model(MAMBA, mlp(64), attention(), mlp(64), mlp(64))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (model(MAMBA, mlp(48), attention(), mlp(64), mlp(64)), ["d_ff 64 -> 48 in 1 of 3 mlp layers (layer 1)"]),
        (
            model(MAMBA, mlp(48), attention(), mlp(40), mlp(48)),
            ["d_ff in 3 of 3 mlp layers: 64 -> 48 in 1, 4; 64 -> 40 in 3"],
        ),
        (model(MAMBA, mlp(64), MAMBA, mlp(64), mlp(64)), ["replaced: layer 2 (attention -> mamba2)"]),
        (
            model(MAMBA, mlp(64), attention(), attention(), mlp(64), mlp(64)),
            ["added: 1 of layers 2-3, such as 3 (attention; which of them, structure does not tell)"],
        ),
        (model(MAMBA, mlp(64), attention(), mlp(64), mlp(64), MAMBA), ["added: layer 5 (mamba2)"]),
        (
            model(MAMBA, mlp(64), attention(n_kv_heads=2), mlp(64), mlp(64)),
            ["n_kv_heads 4 -> 2 in 1 of 1 attention layers"],
        ),
        (
            model(MAMBA, mlp(64), attention(rope=Rope(theta=500.0)), mlp(64), mlp(64)),
            ["rope none -> {theta=500, partial=1} in 1 of 1 attention layers"],
        ),
        (model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), vocab=80), ["vocab 64 -> 80 everywhere"]),
        (
            model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), tied=True),
            ["lm_head tied to embedding"],
        ),
        (
            model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), norm=Norm(eps=1e-6)),
            ["eps 1e-05 -> 1e-06 in 6 of 6 rms_norm"],
        ),
        (
            model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), norm=Norm(kind="layer")),
            ["rms_norm -> layer_norm in 6 of 6 rms_norm"],
        ),
        (
            model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), formats=[("weights", "fp8"), ("kv", "fp8")]),
            ["formats: weights bf16 -> fp8, kv bf16 -> fp8"],
        ),
        (
            model(MAMBA, *(mlp(64), attention(), mlp(64), mlp(64)), mtp=MTP(layers=[attention(), mlp(8)], steps=2)),
            ["multi-token prediction: added (2 steps of attention, mlp)"],
        ),
    ],
)
def test_words(other: Graph, told: list[str]) -> None:
    assert words(diff(BASE, renamed(other))) == told


def test_shares_of_heads_and_of_their_groups_are_those_of_the_words() -> None:
    """n_heads is told as a number of its own, though the op keeps heads of a group: each share is the model's with that
    number changed."""
    a, b = Attention.Fields(n_heads=8, n_kv_heads=2, head_dim=8), Attention.Fields(n_heads=16, n_kv_heads=4, head_dim=8)
    found = diff(model(("attention", a)), model(("attention", b)))
    assert [change.field for change in found.changes] == ["n_heads", "n_kv_heads"]
    assert [stage.added["params"] for stage in found.effect.stages] == [2 * 32 * 8 * 8, 2 * 32 * 8 * 2]

    few, many = (model(("attention", Attention.Fields(n_heads=n, head_dim=8))) for n in (4, 12))  # as many KV heads
    (stage,) = diff(few, many).effect.stages
    assert stage.figures["params"] == many.cost().params.total

    wide = Mamba2.Fields(n_heads=12, head_dim=4, d_state=4, n_groups=4)  # 3 heads a group; on the way 6 of 2 groups
    between = Mamba2.Fields(n_heads=12, head_dim=4, d_state=4, n_groups=2)
    one, two, three = (model(("mamba2", fields)) for fields in (MAMBA[1], between, wide))
    sizes = [g.cost().params.total for g in (one, two, three)]
    assert [s.added["params"] for s in diff(one, three).effect.stages] == [sizes[1] - sizes[0], sizes[2] - sizes[1]]


def test_a_slide_of_what_comes_with_steps_of_prediction_is_left_to_them() -> None:
    one = model(mlp(8), mtp=MTP(layers=[mlp(8)], steps=1))
    three = model(mlp(8), mtp=MTP(layers=[mlp(8), mlp(8)], steps=3))
    assert len(words(diff(three, one))) == len(words(diff(one, three))) == 2


def test_steps_of_multi_token_prediction_by_reference() -> None:
    one, three = (model(MAMBA, mtp=MTP(layers=[attention(), mlp(8)], steps=steps)) for steps in (1, 3))
    assert words(diff(one, three)) == ["multi-token prediction: 1 -> 3 steps"]
    wider = model(MAMBA, mtp=MTP(layers=[attention(), mlp(12)], steps=3))
    assert words(diff(three, wider)) == ["d_ff 8 -> 12 in 1 of 1 mlp MTP layers"]


def test_what_changed_alike_in_every_kind_of_op_is_said_once() -> None:
    layers = [(kind, dataclasses.replace(fields, init_std=0.01)) for kind, fields in (MAMBA, mlp(64), attention())]
    found = diff(model(MAMBA, mlp(64), attention()), renamed(model(*layers, init_std=0.01)))
    assert words(found) == ["init_std 0.02 -> 0.01 everywhere"]
    some = diff(model(MAMBA, mlp(64), attention()), renamed(model(*layers)))
    assert words(some) == [f"init_std 0.02 -> 0.01 in 1 of 1 {kind} layers" for kind in ("mamba2", "mlp", "attention")]


def test_formats_of_parameters() -> None:
    nodes = tuple(
        dataclasses.replace(n, formats=(("up_proj", "mxfp4"),)) if n.id == "L3.mixer" else n for n in BASE.nodes
    )
    found = diff(BASE, dataclasses.replace(BASE, nodes=nodes))
    assert words(found) == ["up_proj format the model's -> mxfp4 in 1 of 3 mlp layers (layer 3)"]
    assert found.effect.stages[0].added["weights_bytes"] == 64 * 32 * 17 // 32 - 64 * 32 * 2


def test_links_and_edges() -> None:
    text = print_graph(BASE)
    tied = text.replace("L3.mixer = mlp(L3.norm)", "L3.mixer = mlp(L3.norm) {d_ff=L1.mixer.d_ff}")
    tied = tied.replace("dim L3.mixer.d_ff = 64\n", "")
    assert words(diff(BASE, parse_graph(tied))) == ["d_ff linked in layers 1, 3"]
    beside = text.replace("L4.norm = rms_norm(L3.add)", "L4.norm = rms_norm(L2.add)")
    assert words(diff(BASE, parse_graph(beside))) == ["other inputs of L4.norm"]


@pytest.mark.parametrize("cls", block_ops(), ids=lambda cls: cls.kind)
def test_every_field_is_seen(cls: type[Op]) -> None:
    """Of every pair of an op's examples exactly the fields that differ are told, by the spec's names."""
    for given_a in cls.Examples:
        for given_b in cls.Examples:
            a, b = cls.Fields(**given_a), cls.Fields(**given_b)
            found = diff(model((cls.kind, a)), renamed(model((cls.kind, b))))
            told = {change.field.partition(".")[0] for change in found.changes}
            differ = {f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name)}
            implied = {"n_kv_heads", "norm_groups"}  # left out, they follow another field
            assert told - implied == differ - implied and {c.of for c in found.changes} <= {cls.kind}


def test_rows_stand_in_order_with_what_changed() -> None:
    found = diff(BASE, renamed(model(MAMBA, mlp(48), mlp(64), mlp(64), MAMBA, norm=Norm(eps=1e-6))))
    rows = [(row.a_position, row.b_position, row.status) for row in found.rows if row.region]
    assert rows == [(0, 0, "changed"), (1, 1, "changed"), (2, None, "dropped"), (3, 2, "changed"), (4, 3, "changed"),
                    (None, 4, "added")]  # fmt: skip
    assert [row.a for row in found.rows if not row.region] == ["embedding", "norm", "lm_head"]
    assert [(f.field, f.old, f.new) for f in found.rows[2].fields] == [("norm.eps", 1e-5, 1e-6), ("d_ff", 64, 48)]


# -- of any two graphs -------------------------------------------------------------------------------------------------


@given(graphs())
@MANY
def test_nothing_differs_from_itself_by_whatever_names(graph: Graph) -> None:
    assert not diff(graph, dataclasses.replace(graph, name="other"))
    found = diff(graph, renamed(graph))
    assert not found, words(found)
    assert {row.status for row in found.rows} == {"same"}


@given(graphs(), graphs())
@MANY
def test_the_waterfall_leads_from_the_cost_of_a_to_that_of_b(a: Graph, b: Graph) -> None:
    workload = {"context": 100, "input": 60, "output": 40, "batch": 3}
    effect = diff(a, b, A10G, **workload).effect
    for graph, figures in ((a, effect.first), (b, effect.last)):
        sheet = cost_sheet(graph, A10G, **workload)
        memory = sheet.memory
        assert (figures["params"], figures["params_active"]) == (sheet.params.total, sheet.params.active)
        assert figures["params_mtp"] == sheet.params.mtp and figures["weights_bytes"] == memory.weights_bytes
        assert figures["state_bytes"] == memory.kv_bytes + memory.ssm_bytes + memory.conv_bytes
        assert figures["resident_bytes"] == memory.resident_bytes
        assert (figures["prefill_flops"], figures["decode_flops"]) == (
            sheet.flops.prefill,
            sheet.flops.decode_per_token,
        )
        assert sheet.latency is not None
        assert figures["prefill_s"] == pytest.approx(sheet.latency.prefill_s, rel=1e-12)
        assert figures["decode_s"] == pytest.approx(sheet.latency.decode_s_per_token, rel=1e-12)
    for name, first in effect.first.items():
        total = first + sum(stage.added[name] for stage in effect.stages)
        assert total == (pytest.approx(effect.last[name]) if name.endswith("_s") else effect.last[name]), name


@given(graphs(), graphs())
@MANY
def test_any_two_graphs_have_a_diff_that_json_holds(a: Graph, b: Graph) -> None:
    found = diff(a, b)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["same"] is not bool(found) and len(data["changes"]) == len(found.changes)
    assert all(change.words and "\n" not in change.words for change in found.changes)
    assert bool(found) == bool(diff(b, a))
    if not found:
        assert a.cost().to_json() == {**b.cost().to_json(), "model": a.name}
