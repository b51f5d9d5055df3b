"""prune and reorder: before and after as text, what is kept, and equality with the parent over the kept units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.nesting import finer, nested
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import Context, Pipeline, apply
from archc.passes.prune import Prune
from archc.passes.reorder import Reorder
from archc.passes.scores import Scores
from archc.resolve import load
from archc.testing.oracle import with_units_zeroed

BEFORE = """\
archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.n_groups = 2
dim L0.mixer.heads_per_group = 3 within L0.mixer.n_groups
dim L0.mixer.head_dim = 4
dim L0.mixer.d_state = 4 within L0.mixer.n_groups
dim L0.mixer.conv_kernel = 2 fixed
dim L1.mixer.d_ff = 16
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mamba2(L0.norm) {norm_groups=2}
  L0.add = add(embedding, L0.mixer)
  L1.norm = rms_norm(L0.add)
  L1.mixer = mlp(L1.norm)
  L1.add = add(L0.add, L1.mixer)
norm = rms_norm(L1.add)
lm_head = lm_head(norm)
output hidden = norm
output logits = lm_head
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return parse_graph(BEFORE)


def scored(graph: Graph, **units: list[list[float]]) -> Context:
    return Context(scores=Scores(graph.short_hash, {"activation": {k: np.array(v) for k, v in units.items()}}))


def test_before_and_after(graph: Graph) -> None:
    made, weights = apply(graph, "prune{dim=d_ff, to=12, by=first}; prune{dim=n_heads, to=4, by=first}")
    after = BEFORE.replace("d_ff = 16", "d_ff = 12").replace("heads_per_group = 3", "heads_per_group = 2")
    expected = parse_graph(after)
    assert (made.nodes, made.outputs) == (expected.nodes, expected.outputs)
    assert str(weights.params["layers.1.mixer.up_proj"]) == "take(layers.1.mixer.up_proj, 0, [0:12])"


def test_the_most_important_are_kept_in_their_order(graph: Graph) -> None:
    ctx = scored(graph, **{"L0.mixer.heads_per_group": [[3.0, 1.0, 2.0], [1.0, 1.0, 5.0]]})
    (chosen,) = Prune(dim="n_heads", to=4).chosen(graph, ctx).values()
    assert chosen.index.tolist() == [[0, 2], [0, 2]]


def test_scores_follow_the_units(graph: Graph) -> None:
    """The second pass chooses among what the first has left, by what was measured before either."""
    ctx = scored(graph, **{"L1.mixer.d_ff": [list(np.arange(16.0))], "d_model": [[5, 1, 4, 2, 8, 7, 6, 3]]})
    first = next(Pipeline.parse("prune{dim=d_ff, to=4}").steps(graph, ctx))
    assert str(first.weights.params["layers.1.mixer.up_proj"]) == "take(layers.1.mixer.up_proj, 0, [12:16])"
    _, weights = apply(graph, "reorder{dim=d_model}; prune{dim=d_model, to=2}", ctx)
    assert str(weights.params["norm.weight"]) == "take(norm.weight, 0, [4:6])"


def test_experts_and_what_lies_within_go_together() -> None:
    graph = load("tiny-moe")
    (name,) = {d.name for n in graph.nodes for role, d in n.op.dims.items() if role == "experts"} & {"L1.mixer.experts"}
    made, _ = apply(graph, "prune{dim=experts, to=4, by=random, layers=(1)}")
    assert made.dims[name].size == 4


@pytest.mark.parametrize("name", ["tiny-hybrid", "tiny-dense", "tiny-latent"])
@given(seed=st.integers(0, 99), role=st.sampled_from(["d_model", "d_ff", "n_heads", "head_dim", "d_state", "experts"]))
@settings(max_examples=6, deadline=None)
def test_equals_the_parent_over_what_is_kept(name: str, seed: int, role: str) -> None:
    graph = load(name)
    if not any(role in n.op.dims or role in n.op.derived() for n in graph.nodes):
        return
    one = Prune(dim=role, keep=0.75, by="random", seed=seed)
    weights = {k: w.double() for k, w in init_weights(graph, seed=seed).items()}
    inputs = {"tokens": torch.arange(8)[None] * 7 % graph.dims["vocab"].size}
    made, carried = apply(graph, one)
    expected = with_units_zeroed(graph, weights, inputs, one.chosen(graph, Context()), kept_norms=True)["logits"]
    found = execute(made, carried.apply(weights), inputs, outputs=["logits"])["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 99), kind=st.sampled_from(["mamba2", "attention"]), rescale=st.booleans())
@settings(max_examples=8, deadline=None)
def test_heads_keep_channels_of_their_own(seed: int, kind: str, rescale: bool) -> None:
    graph = load("tiny-hybrid")
    one = Prune(dim="head_dim", keep=0.75, by="random", kind=kind, per_head=True, rescale_norm=rescale, seed=seed)
    weights = {k: w.double() for k, w in init_weights(graph, seed=seed).items()}
    inputs = {"tokens": torch.arange(8)[None] * 7 % graph.dims["vocab"].size}
    made, carried = apply(graph, one)
    chosen = one.chosen(graph, Context())
    assert not any(one.uniform for one in chosen.values())
    apart = nested(graph, finer(graph))
    expected = with_units_zeroed(apart, weights, inputs, chosen, kept_norms=not rescale)["logits"]
    found = execute(made, carried.apply(weights), inputs, outputs=["logits"])["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert made.dims.keys() == graph.dims.keys() and all(
        d.within is None for d in made.dims.values() if "head_dim" in d.name
    )


def test_channels_of_heads_are_ranked_by_scores_of_heads(graph: Graph) -> None:
    heads = {"L0.mixer.head_dim per heads_per_group": np.random.default_rng(0).random((6, 4)).tolist()}
    ctx = scored(graph, **heads, **{"L0.mixer.head_dim": [[1.0, 2.0, 3.0, 4.0]]})
    first, second = Pipeline.parse(
        "prune{dim=n_heads, to=4, by=first}; prune{dim=head_dim, to=2, per_head=true}"
    ).steps(graph, ctx)
    left = first.applied.scores_after(graph, ctx)
    (chosen,) = Prune(dim="head_dim", to=2, per_head=True).chosen(first.graph, Context(scores=left)).values()
    best = np.sort(np.argsort(-np.array(heads.popitem()[1])[[0, 1, 3, 4]], axis=1)[:, :2], axis=1)
    assert chosen.index.tolist() == best.tolist()
    assert second.graph.dims["L0.mixer.head_dim"].size == 2


def test_channels_that_rotate_are_shared() -> None:
    with pytest.raises(PassError, match="is not shared by heads that could each keep units of their own"):
        apply(load("tiny-attention"), "prune{dim=head_dim, keep=0.5, by=random, per_head=true}")


@pytest.mark.parametrize("role", ["d_model", "d_ff", "n_heads", "head_dim", "experts", "d_state"])
def test_reordering_changes_nothing(role: str) -> None:
    graph = load("tiny-hybrid")
    weights = {k: w.double() for k, w in init_weights(graph, seed=4).items()}
    inputs = {"tokens": torch.arange(8)[None] * 7 % graph.dims["vocab"].size}
    made, carried = apply(graph, Reorder(dim=role, by="random", seed=1))
    moved = carried.apply(weights)
    assert any(not torch.equal(moved[k], weights[k]) for k in weights)
    before, after = (execute(g, w, inputs)["logits"] for g, w in ((graph, weights), (made, moved)))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def test_rotary_pairs_go_together_and_keep_their_frequencies() -> None:
    graph = load("tiny-attention")
    names = [n for n in graph.dims if n.endswith("head_dim")]
    assert all(graph.dims[n].order == "pairs" for n in names)
    made, _ = apply(graph, "prune{dim=head_dim, keep=0.5, by=random}")
    for node in made.nodes:
        if node.op.kind == "attention":
            rope = node.op.attributes["rope"]
            assert len(rope.frequencies) == node.op.dims["head_dim"].size // 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune{dim=d_ff}", "give one of `to` (units) and `keep` (a share of them)"),
        ("prune{dim=d_ff, to=4}", "`by=activation` needs scores, and there are none"),
        ("prune{dim=d_f, to=4, by=first}", "unknown dim of `small` `d_f`: did you mean `d_ff`?"),
        ("prune{dim=d_ff, to=17, by=first}", "`L1.mixer.d_ff` has 16 `d_ff`: `to` is 1 to 16, got 17"),
        ("prune{dim=d_ff, keep=1.5, by=first}", "`keep` is a share above 0 and up to 1: got 1.5"),
        ("prune{dim=n_heads, to=3, by=first}", "`n_heads` are taken equally from 2 groups: `to` is a multiple, got 3"),
        ("prune{dim=conv_kernel, to=1, by=first}", "`L0.mixer.conv_kernel` is fixed"),
        ("prune{dim=d_ff, to=4, by=first, kind=mpl}", "unknown kind of op in `small` `mpl`: did you mean `mlp`?"),
        ("prune{dim=d_ff, to=4, by=first, layers=(7)}", "`small` has layers 0 to 1: got 7"),
        ("reorder{dim=vocab, by=random}", "`vocab` is fixed"),
    ],
)  # fmt: skip
def test_refused(graph: Graph, text: str, message: str) -> None:
    with pytest.raises(PassError) as raised:
        apply(graph, text)
    assert message in str(raised.value)
    assert str(raised.value).count(text.partition("{")[0] + "{") == 1


def test_a_token_cannot_choose_more_experts_than_there_are() -> None:
    with pytest.raises(
        PassError, match=r"layers\.\d+\.mixer: `top_k` must not exceed `experts`: got top_k=2, experts=1"
    ):
        apply(load("tiny-moe"), "prune{dim=experts, to=1, by=first}")
