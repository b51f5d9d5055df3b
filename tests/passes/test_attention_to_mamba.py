"""attention-to-mamba: text, whose rows become whose, what it refuses, and that local distillation improves it."""

import pytest
import torch
from torch import Tensor

import archc
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import apply
from archc.train.losses import Losses, Setting
from archc.train.losses.block_kd import BlockKD
from archc.train.teachers import LiveTeacher
from tests.train.losses_kit import batch_of, graph_of, model_of

BEFORE = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.n_kv_heads = 2
dim L0.mixer.queries_per_kv = 4 within L0.mixer.n_kv_heads
dim L0.mixer.head_dim = 6 pairs
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = attention(L0.norm) {rope={}, has_qkv_bias=true}
  L0.add = add(embedding, L0.mixer)
norm = rms_norm(L0.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

AFTER = """archc graph 1
name small
dim vocab = 32 fixed
dim d_model = 8
dim L0.mixer.n_groups = 4
dim L0.mixer.heads_per_group = 2 within L0.mixer.n_groups
dim L0.mixer.head_dim = 6
dim L0.mixer.d_state = 5 within L0.mixer.n_groups
dim L0.mixer.conv_kernel = 4 fixed
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mamba2(L0.norm) {chunk=16, norm_groups=4, bias=true}
  L0.add = add(embedding, L0.mixer)
norm = rms_norm(L0.add)
lm_head = lm_head(norm)
output logits = lm_head
"""


def test_before_and_after() -> None:
    made, weights = apply(parse_graph(BEFORE), "attention-to-mamba{d_state=5, n_groups=4, chunk=16}")
    assert made == parse_graph(AFTER).made_from(parse_graph(BEFORE))
    assert not weights.dropped


def carried(options: str, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The old and the new parameters of the block."""
    graph = parse_graph(BEFORE)
    torch.manual_seed(0)
    old = {k: w + torch.rand_like(w) for k, w in init_weights(graph, seed=1, dtype=dtype).items()}
    new = apply(graph, f"attention-to-mamba{{{options}}}")[1].apply(old)
    return _of_block(old), _of_block(new)


def _of_block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.rpartition(".")[2]: w for k, w in weights.items() if ".mixer." in k}


@pytest.mark.parametrize("kind", ["proj", "bias"])
def test_a_group_for_each_query_head(kind: str) -> None:
    old, new = carried("dtype=fp64")
    _, x, b, c, dt = new[f"in_{'proj' if kind == 'proj' else 'proj_bias'}"].split((48, 48, 48, 48, 8))
    assert torch.equal(c, old[f"q_{kind}"])
    for rows, name in ((x, "v"), (b, "k")):
        theirs = old[f"{name}_{kind}"].unflatten(0, (2, 6))
        for head in range(8):
            assert torch.equal(rows.unflatten(0, (8, 6))[head], theirs[head // 4])
    assert dt.shape[0] == 8
    assert torch.equal(new["out_proj"], old["o_proj"])


def test_fewer_groups_and_channels_of_state() -> None:
    old, new = carried("n_groups=4, d_state=5, dtype=fp64")
    _, _, b, c, _ = new["in_proj"].split((48, 48, 20, 20, 8))
    queries, keys = old["q_proj"].view(8, 6, 8), old["k_proj"].view(2, 6, 8)
    torch.testing.assert_close(c.view(4, 5, 8)[3], (queries[6] + queries[7])[:5] / 2)
    assert torch.equal(b.view(4, 5, 8)[1], keys[0, :5]) and torch.equal(b.view(4, 5, 8)[2], keys[1, :5])


def test_more_channels_of_state_change_nothing_at_first() -> None:
    old, new = carried("d_state=9, dtype=fp64")
    _, _, b, c, _ = new["in_proj"].split((48, 48, 72, 72, 8))
    assert torch.equal(b.view(8, 9, 8)[5, :6], old["k_proj"].view(2, 6, 8)[1])
    assert not c.view(8, 9, 8)[:, 6:].any() and b.view(8, 9, 8)[:, 6:].all()


def test_a_new_block_in_a_checkpoint_of_another_type() -> None:
    _, new = carried("dtype=bf16", dtype=torch.float32)
    assert {w.dtype for w in new.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        ({}, "attention-to-mamba{n_groups=1}", "`n_groups` must divide 8 heads and be a multiple of 2 KV heads"),
        ({"rope={}": "mask=bidirectional"}, "attention-to-mamba", "`L0.mixer` is bidirectional"),
        ({}, "attention-to-mamba{layers=(1)}", "has layers 0 to 0: got 1"),
    ],
)
def test_what_is_refused(change: dict[str, str], text: str, message: str) -> None:
    before = BEFORE
    for old, new in change.items():
        before = before.replace(old, new).replace(" pairs", "")
    with pytest.raises(PassError, match=message):
        apply(parse_graph(before), text)


@pytest.mark.slow
def test_local_distillation_lowers_the_blocks_error() -> None:
    """A few steps of `block_kd` on random tokens: what it adds to the stream nears what the attention adds."""
    parent = graph_of("*-*-", name="parent")
    weights = init_weights(parent, seed=0, dtype=torch.float64)
    student, made = archc.apply(parent, "attention-to-mamba{layers=(2), dtype=fp64, chunk=4}")
    model = model_of(student, made.apply(weights))
    losses = Losses([BlockKD()], Setting(student, {"parent": LiveTeacher(parent, model_of(parent, weights))}))
    optimizer = torch.optim.Adam(model.layers[2].parameters(), lr=0.01)
    errors = []
    for step in range(60):
        batch = batch_of(4, 12, seed=step)
        passed = losses(model, batch)
        optimizer.zero_grad()
        passed.objective(losses.counts(batch)).backward()
        optimizer.step()
        total, _ = passed.told()["block_kd/layers.2"]
        errors.append(float(total) / batch.tokens.numel())
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])
