"""merge-kv-heads, merge-groups, merge-experts: text, averages by hand, exact where the merged units are equal."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from archc.ir.build import Block, build_model
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.op import Op, op_class
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import Context, apply
from archc.passes.merge_kv_heads import MergeKVHeads
from archc.passes.merging import remake
from archc.passes.scores import Scores
from archc.resolve import load
from archc.testing import graphs

BEFORE = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.n_kv_heads = 4
dim L0.mixer.queries_per_kv = 2 within L0.mixer.n_kv_heads
dim L0.mixer.head_dim = 6 pairs
dim L1.mixer.n_groups = 4
dim L1.mixer.heads_per_group = 3 within L1.mixer.n_groups
dim L1.mixer.head_dim = 5
dim L1.mixer.d_state = 7 within L1.mixer.n_groups
dim L1.mixer.conv_kernel = 4 fixed
dim L2.mixer.experts = 6
dim L2.mixer.d_ff = 9 within L2.mixer.experts
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = attention(L0.norm) {rope={}}
  L0.add = add(embedding, L0.mixer)
  L1.norm = rms_norm(L0.add)
  L1.mixer = mamba2(L1.norm) {chunk=8, norm_groups=4}
  L1.add = add(L0.add, L1.mixer)
  L2.norm = rms_norm(L1.add)
  L2.mixer = moe(L2.norm) {top_k=2}
  L2.add = add(L1.add, L2.mixer)
norm = rms_norm(L2.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

AFTER = (
    BEFORE.replace("n_kv_heads = 4", "n_kv_heads = 2")
    .replace("queries_per_kv = 2", "queries_per_kv = 4")
    .replace("n_groups = 4", "n_groups = 2")
    .replace("heads_per_group = 3 within L1.mixer.n_groups", "heads_per_group = 6 within L1.mixer.n_groups fixed")
    .replace("experts = 6", "experts = 3")
)

ALL = "merge-kv-heads{to=2}; merge-groups{to=2}; merge-experts{to=3}"


def test_before_and_after() -> None:
    """The gated norm keeps 4 parts, two a group now: heads no longer move freely within a group."""
    made, _ = apply(parse_graph(BEFORE), ALL)
    assert dataclasses.replace(made, lineage=()) == parse_graph(AFTER)


def weights_of(graph: Graph) -> dict[str, Tensor]:
    """Weights in which nothing is zero or one."""
    torch.manual_seed(0)
    return {k: w + 0.1 * torch.rand_like(w) for k, w in init_weights(graph, seed=1, dtype=torch.float64).items()}


def test_averages_by_hand() -> None:
    graph = parse_graph(BEFORE)
    old = weights_of(graph)
    new = apply(graph, ALL)[1].apply(old)
    attention, mamba, moe = ("layers.0.mixer", "layers.1.mixer", "layers.2.mixer")
    for name in ("k_proj", "v_proj"):
        heads = old[f"{attention}.{name}"].view(4, 6, 8)
        torch.testing.assert_close(new[f"{attention}.{name}"].view(2, 6, 8)[1], (heads[2] + heads[3]) / 2)
    torch.testing.assert_close(new[f"{mamba}.in_proj"], _averaged_in_proj(old[f"{mamba}.in_proj"]))
    up = old[f"{moe}.up_proj"]
    torch.testing.assert_close(new[f"{moe}.up_proj"][2], (up[4] + up[5]) / 2)
    torch.testing.assert_close(new[f"{moe}.router"][0], old[f"{moe}.router"][:2].mean(0))
    as_before = (f"{attention}.q_proj", f"{attention}.o_proj", f"{mamba}.out_proj", f"{mamba}.A_log", f"{mamba}.norm")
    assert all(torch.equal(new[key], old[key]) for key in as_before)


def _averaged_in_proj(rows: Tensor) -> Tensor:
    z_x, b, c, dt = rows.split((2 * 60, 28, 28, 12))
    return torch.cat([z_x, *(part.view(2, 2, 7, 8).mean(1).reshape(14, 8) for part in (b, c)), dt])


def scored(graph: Graph, name: str, values: list[float]) -> Context:
    dim = graph.dims[name]
    inner = {f"{dim.name.rpartition('.')[0]}.queries_per_kv": np.arange(8.0).reshape(4, 2)}
    units = {"act-l2": {name: np.array([values]), **inner}}
    return Context(scores=Scores(graph.short_hash, units))


def test_weighted_by_scores_and_other_units_than_neighbours() -> None:
    graph = parse_graph(BEFORE)
    old, ctx = weights_of(graph), scored(graph, "L0.mixer.n_kv_heads", [1.0, 2.0, 3.0, 6.0])
    one = MergeKVHeads(groups=((3, 0), (1, 2)), by="act-l2")
    new = apply(graph, one, ctx)[1].apply(old)
    heads = old["layers.0.mixer.k_proj"].view(4, 6, 8)
    expected = torch.stack([(6 * heads[3] + heads[0]) / 7, (2 * heads[1] + 3 * heads[2]) / 5])
    torch.testing.assert_close(new["layers.0.mixer.k_proj"].view(2, 6, 8), expected)
    queries = old["layers.0.mixer.q_proj"].view(4, 12, 8)[[3, 0, 1, 2]]
    assert torch.equal(new["layers.0.mixer.q_proj"], queries.reshape(48, 8))
    left = one.scores_after(graph, ctx)
    assert left is not None and list(left.units["act-l2"]) == ["L0.mixer.queries_per_kv"]
    assert left.units["act-l2"]["L0.mixer.queries_per_kv"].tolist() == [[6, 7, 0, 1], [2, 3, 4, 5]]


EQUAL: list[tuple[Block, str]] = [
    (
        ("attention", {"n_heads": 8, "head_dim": 6, "n_kv_heads": 4, "qkv_bias": True, "sinks": True}),
        "merge-kv-heads{groups=((3, 0), (1, 2))}",
    ),
    (
        ("mamba2", {"n_heads": 12, "head_dim": 5, "d_state": 7, "n_groups": 4, "chunk": 8, "bias": True}),
        "merge-groups{groups=((3, 0), (1, 2))}",
    ),
    (("mamba2", {"n_heads": 12, "head_dim": 5, "d_state": 7, "n_groups": 4, "norm_groups": 1}), "merge-groups{to=2}"),
    (("moe", {"experts": 8, "top_k": 4, "d_ff": 9, "gated": True}), "merge-experts{to=4, top_k=2}"),
    (
        ("moe", {"experts": 8, "top_k": 4, "d_ff": 9, "router": "sigmoid", "correction_bias": True, "bias": True}),
        "merge-experts{groups=((3, 0), (1, 2), (4, 7), (5, 6)), top_k=2}",
    ),
    (
        ("latent_moe", {"experts": 4, "top_k": 2, "d_ff": 9, "latent": 6, "renormalize": False}),
        "merge-experts{to=2, top_k=1}",
    ),
]


@pytest.mark.parametrize(("block", "text"), EQUAL, ids=str)
def test_exact_where_the_merged_units_are_equal(block: Block, text: str) -> None:
    kind, fields = block
    graph = build_model(name="one", d_model=8, vocab=32, layers=[(kind, op_class(kind).Fields(**fields))])
    made, merged = apply(graph, text)
    weights = _equalled_weights(graph, text, weights_of(graph))
    tokens = {"tokens": torch.arange(20).reshape(2, 10) % 32}
    expected = execute(graph, weights, tokens)["logits"]
    found = execute(made, merged.apply(weights), tokens)["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def _equalled_weights(graph: Graph, text: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with every unit that is merged replaced by the first of its group."""
    op = graph.node("L0.mixer").op
    groups = ((0, 3), (1, 2), (4, 7), (5, 6)) if "3, 0" in text else ((0, 1), (2, 3), (4, 5), (6, 7))
    outer = next(d for role, d in op.dims.items() if role in ("n_kv_heads", "n_groups", "experts"))
    source = torch.arange(outer.size)
    for first, second in groups[: outer.size // 2]:
        source[second] = source[first]
    return {key: _equalled(op, key, w, outer.size, source) for key, w in weights.items()}


def _equalled(op: object, key: str, w: Tensor, units: int, source: Tensor) -> Tensor:
    name = key.rpartition(".")[2]
    if name in ("k_proj", "v_proj", "k_bias", "v_bias"):
        return w.view(units, -1)[source].reshape(w.shape)
    if name in ("router", "correction_bias") or name.startswith(("up_", "gate_", "down_")):
        return w[source]
    if name in ("in_proj", "in_proj_bias"):
        parts = w.split((60, 60, 28, 28, 12))
        return torch.cat([*parts[:2], *(p.view(units, -1)[source].reshape(p.shape) for p in parts[2:4]), parts[4]])
    if name in ("conv_weight", "conv_bias"):
        x, *parts = w.split((60, 28, 28))
        return torch.cat([x, *(p.view(units, -1)[source].reshape(p.shape) for p in parts)])
    return w


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge-kv-heads", "say either `to`, .* or `groups`"),
        ("merge-kv-heads{to=3}", "`to` must divide the 4 units of `L0.mixer.n_kv_heads`: got 3"),
        ("merge-kv-heads{groups=((0, 1), (2, 2))}", "`groups` must name each of the 4 units"),
        ("merge-kv-heads{groups=((0, 1, 2), (3))}", "`groups` must be equally large"),
        ("merge-kv-heads{to=2, layers=(1)}", "no attention in layers 1"),
        ("drop-layers{layers=(2)}; merge-experts{to=2}", "`small` has no moe"),
        ("merge-kv-heads{to=2, layers=(7)}", "has layers 0 to 2: got 7"),
        ("merge-kv-heads{to=2, by=act-l2}", "no scores to weigh by: measure `act-l2`"),
        ("merge-experts{to=1}", "`top_k` of 1 experts: got 2; say a smaller `top_k`"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        apply(parse_graph(BEFORE), text)


def test_steps_that_share_a_block_are_merged_together() -> None:
    made, _ = apply(load("tiny-latent"), "merge-kv-heads{to=1}; merge-experts{to=8}")
    assert made.node("M0x2.mixer").op == made.node("M0.mixer").op
    assert made.dims["M1.mixer.experts"].size == 8


@given(graphs())
@settings(max_examples=25, deadline=None)
def test_any_graph_is_merged_to_one_of_each(graph: Graph) -> None:
    """As many query and Mamba heads; weights fit (the pipeline sees to it), and ops are what their fields make."""
    kinds = {"attention": "merge-kv-heads{to=1}", "mamba2": "merge-groups{to=1}"}
    there = {n.op.kind for n in graph.nodes}
    made, _ = apply(graph, "; ".join(text for kind, text in kinds.items() if kind in there))
    for old, new in zip(graph.nodes, made.nodes, strict=True):
        assert heads(new.op) == heads(old.op)
        assert new.op == old.op or remake(new.op) == new.op
        assert all(new.op.dims[role].size == 1 for role in ("n_kv_heads", "n_groups") if role in new.op.dims)


def heads(op: Op) -> int | None:
    return op.derived()["n_heads"].size if "n_heads" in op.derived() else None


def test_an_order_of_units_does_not_survive() -> None:
    assert MergeKVHeads(to=2).breaks == {"sorted:n_kv_heads", "sorted:queries_per_kv", "sorted:n_heads"}
