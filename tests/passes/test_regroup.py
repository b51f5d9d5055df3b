"""regroup: the best heads of all are equally many in every group, as few as must move, and weights go with them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.init import init_weights
from archc.ir.text import parse_graph, print_graph
from archc.kernels.errors import PassError
from archc.passes import Context, apply
from archc.passes.regroup import Regroup
from archc.passes.scores import Scores
from archc.resolve import load

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
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mamba2(L0.norm) {norm_groups=2}
  L0.add = add(embedding, L0.mixer)
norm = rms_norm(L0.add)
lm_head = lm_head(norm)
output hidden = norm
output logits = lm_head
"""
HEADS = "L0.mixer.heads_per_group"


def scored(values: list[list[float]]) -> Context:
    return Context(scores=Scores(parse_graph(BEFORE).short_hash, {"activation": {HEADS: np.array(values)}}))


def test_before_and_after() -> None:
    graph = parse_graph(BEFORE)
    made, weights = apply(graph, "regroup{dim=n_heads, to=4}", scored([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]))
    assert re.sub(r"(?m)^lineage .*\n", "", print_graph(made)) == BEFORE
    old = init_weights(graph, seed=0)
    new = weights.apply(old)
    # Heads 0 and 1 stay, 2 is one of the best four and goes where there is room; 5 gives way.
    assert torch.equal(new["layers.0.mixer.dt_bias"], old["layers.0.mixer.dt_bias"][[0, 1, 5, 2, 3, 4]])
    rows = torch.arange(24).view(6, 4)[[0, 1, 5, 2, 3, 4]].flatten()
    assert torch.equal(new["layers.0.mixer.out_proj"], old["layers.0.mixer.out_proj"][:, rows])
    assert torch.equal(new["layers.0.mixer.in_proj"][48:64], old["layers.0.mixer.in_proj"][48:64])  # B, C and no more


def test_a_prune_then_keeps_the_best_of_all() -> None:
    graph, context = parse_graph(BEFORE), scored([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]])
    old = init_weights(graph, seed=0)
    across = apply(graph, "regroup{dim=n_heads, to=4}; prune{dim=n_heads, to=4}", context)[1].apply(old)
    assert torch.equal(across["layers.0.mixer.D"], old["layers.0.mixer.D"][[0, 1, 2, 3]])
    assert torch.equal(across["layers.0.mixer.A_log"], old["layers.0.mixer.A_log"][[0, 1, 2, 3]])
    within = apply(graph, "prune{dim=n_heads, to=4}", context)[1].apply(old)
    assert torch.equal(within["layers.0.mixer.A_log"], old["layers.0.mixer.A_log"][[0, 1, 3, 4]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=6, max_size=6, unique=True), st.sampled_from([2, 4, 6]))
def test_best_units_are_spread_and_none_moves_without_need(values: list[int], to: int) -> None:
    graph = parse_graph(BEFORE)
    ((_, order),) = Regroup(dim="n_heads", to=to).orders(graph, scored([values[:3], values[3:]]))
    assert sorted(order) == list(range(6))
    best = set(np.argsort(-np.array(values))[:to].tolist())
    groups = [set(order[:3].tolist()), set(order[3:].tolist())]
    assert [len(best & group) for group in groups] == [to // 2] * 2
    had = len(best & {0, 1, 2})
    assert len(groups[0] - {0, 1, 2}) == abs(had - to // 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regroup{dim=n_heads, to=3, kind=mamba2, by=random}", "`to` is a multiple of 2 and up to 4: got 3"),
        ("regroup{dim=d_ff, to=4, by=random}", "`to` is a multiple of 8"),
        ("regroup{dim=d_model, to=4, by=random}", "`d_model` lies within nothing"),
        ("regroup{dim=n_heads, to=2, kind=mamba2}", "needs scores"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(PassError, match=re.escape(message)):
        apply(load("tiny-hybrid"), text)
