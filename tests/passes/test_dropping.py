"""drop-kv-heads, drop-groups, drop-experts: before and after as text, equality with the parent without the units."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from archc.ir.execute import execute
from archc.ir.selection import Selections, keep
from archc.ir.text import parse_graph, print_graph
from archc.kernels.errors import PassError
from archc.passes import Context, Pipeline, apply
from archc.passes.scores import Scores
from archc.resolve import load
from archc.testing.contracts import random_weights
from archc.testing.oracle import with_units_zeroed

BEFORE = """\
archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.n_groups = 3
dim L0.mixer.heads_per_group = 2 within L0.mixer.n_groups
dim L0.mixer.head_dim = 4
dim L0.mixer.d_state = 4 within L0.mixer.n_groups
dim L0.mixer.conv_kernel = 2 fixed
dim L1.mixer.n_kv_heads = 3
dim L1.mixer.queries_per_kv = 2 within L1.mixer.n_kv_heads
dim L1.mixer.head_dim = 4
dim L2.mixer.experts = 5
dim L2.mixer.d_ff = 8 within L2.mixer.experts
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mamba2(L0.norm) {norm_groups=3}
  L0.add = add(embedding, L0.mixer)
  L1.norm = rms_norm(L0.add)
  L1.mixer = attention(L1.norm)
  L1.add = add(L0.add, L1.mixer)
  L2.norm = rms_norm(L1.add)
  L2.mixer = moe(L2.norm) {top_k=2, has_correction_bias=true}
  L2.add = add(L1.add, L2.mixer)
norm = rms_norm(L2.add)
lm_head = lm_head(norm)
output hidden = norm
output logits = lm_head
"""
DIMS = {"drop-groups": "L0.mixer.n_groups", "drop-kv-heads": "L1.mixer.n_kv_heads", "drop-experts": "L2.mixer.experts"}


@pytest.mark.parametrize("name", DIMS)
def test_before_and_after(name: str) -> None:
    made, _ = apply(parse_graph(BEFORE), f"{name}{{units=(1)}}")
    size = parse_graph(BEFORE).dims[DIMS[name]].size
    after = BEFORE.replace(f"dim {DIMS[name]} = {size}", f"dim {DIMS[name]} = {size - 1}")
    if name == "drop-groups":
        after = after.replace("norm_groups=3", "norm_groups=2")
    assert re.sub(r"(?m)^lineage .*\n", "", print_graph(made)) == print_graph(parse_graph(after))


@pytest.mark.parametrize("name", DIMS)
def test_what_is_left_computes_what_it_did(name: str) -> None:
    graph = parse_graph(BEFORE)
    dim, weights = graph.dims[DIMS[name]], random_weights(graph)
    made, taken = apply(graph, f"{name}{{units=(0)}}")
    tokens = {"tokens": torch.arange(12).reshape(2, 6)}
    found = execute(made, taken.apply(weights), tokens)["logits"]
    chosen = Selections([keep(dim, range(1, dim.size))])
    wanted = with_units_zeroed(graph, weights, tokens, chosen, kept_norms=True)["logits"]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_by_importance_the_least_go_and_scores_are_handed_on() -> None:
    graph = parse_graph(BEFORE)
    scores = Scores(graph.short_hash, {"expert": {DIMS["drop-experts"]: np.array([[3.0, 1.0, 5.0, 2.0, 4.0]])}})
    *_, step = Pipeline.parse("drop-experts{count=2, by=expert}").steps(graph, Context(scores=scores))
    assert str(step.weights.params["layers.2.mixer.router"]) == "take(layers.2.mixer.router, 0, [0:6:2])"
    left = step.applied.scores_after(graph, Context(scores=scores))
    assert left is not None and left.units["expert"][DIMS["drop-experts"]].tolist() == [[3.0, 5.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop-experts", "give one of `units` (their numbers) and `count` (how many)"),
        ("drop-experts{units=(1), count=1}", "give one of `units`"),
        ("drop-experts{units=(1, 8)}", "`L1.mixer.experts` has the units 0 to 7: got 8"),
        ("drop-experts{count=8, by=random}", "has 8 units, of which 1 to 7 may go: got 8"),
        ("drop-experts{count=7, by=random}", "top_k"),
        ("drop-kv-heads{units=(0), layers=(0)}", "unknown dim"),
        ("drop-groups{count=1}", "`by=activation` needs scores"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(PassError, match=re.escape(message)):
        apply(load("tiny-hybrid"), text)
