"""Every estimator against its formula, written out over samples, tokens and units; and what holds of all of them."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from archc.ir.dims import Dim
from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.nesting import finer
from archc.ir.selection import keep
from archc.ir.slicing import select
from archc.kernels.errors import ArchcError, ParseError, PassError
from archc.passes import apply
from archc.passes.importance import measure, measuring, parse_estimators, registered_estimators
from archc.passes.importance.units import owned, pieces
from archc.passes.scores import Scores, per_unit
from archc.spec.load import load_spec
from archc.testing import graphs

SPEC = """
archc: 1
name: small
d_model: 12
vocab: 40
blocks:
  M: {mamba2: {n_heads: 4, head_dim: 3, d_state: 5, n_groups: 2, chunk: 4}}
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 6}}
  "-": {mlp: {d_ff: 10, activation: relu2}}
  E: {moe: {experts: 5, top_k: 2, d_ff: 7, shared_d_ff: 4, gated: true, router: sigmoid, correction_bias: true}}
  L: {latent_moe: {experts: 4, top_k: 2, d_ff: 6, latent: 8, activation: relu2}}
layers: "M*-EL"
mtp: {layers: "-"}
"""
EVERY = "activation, expert, weight_norm, taylor, influence, logit_mse, hidden_mse, kl, perplexity, iterative"
MAMBA, ATTENTION, MLP, MOE, LATENT = (f"layers.{i}.mixer" for i in range(5))
VOCAB = 40


def small() -> Graph:
    return load_spec(SPEC).graph()


def drawn_weights(graph: Graph) -> dict[str, Tensor]:
    """Weights that no symmetry hides anything of: norms and biases too."""
    made = torch.Generator().manual_seed(3)
    found = {k: w.double() for k, w in init_weights(graph, seed=3).items()}
    return {k: w + 0.3 * torch.randn(w.shape, generator=made, dtype=torch.float64) for k, w in found.items()}


def samples(count: int = 5, length: int = 9) -> Tensor:
    return torch.randint(0, VOCAB, (count, length), generator=torch.Generator().manual_seed(7))


GRAPH = small()
WEIGHTS = drawn_weights(GRAPH)
TOKENS = samples()


def scores(estimators: str, *batches: Tensor) -> Scores:
    return measure(GRAPH, WEIGHTS, batches or [TOKENS], estimators)


def taps(*names: str) -> list[Tensor]:
    found = execute(GRAPH, WEIGHTS, TOKENS, names)
    return [found[name] for name in names]


def close(found: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-10, atol=1e-13)


def mean_then_l2(value: Tensor) -> Tensor:
    """[B, L, ...]: the root over samples of the squared mean over tokens, sample by sample."""
    total = torch.zeros(value.shape[2:], dtype=torch.float64)
    for sample in value.abs():
        total += (sum(sample) / len(sample)) ** 2  # type: ignore[operator]
    return total.sqrt()


# -- activation --------------------------------------------------------------------------------------------------------


def test_hidden_units_are_scored_behind_the_activation_or_before_it() -> None:
    (x,) = taps("L2.norm")
    before = x @ WEIGHTS[f"{MLP}.up_proj"].T
    close(scores("activation").units["activation"]["L2.mixer.d_ff"], mean_then_l2(F.relu(before) ** 2)[None])
    told = "activation{taps=(up)}"
    close(scores(told).units["activation"]["L2.mixer.d_ff"], mean_then_l2(before)[None])


def test_the_stream_is_scored_at_the_outputs_of_all_norms() -> None:
    norms = [n.id for n in GRAPH.nodes if n.op.kind == "rms_norm"]
    assert {"L0.norm", "L4.norm", "norm", "M0.norm"} <= set(norms)
    expected = sum(mean_then_l2(value) for value in taps(*norms))
    close(scores("activation").units["activation"]["d_model"], expected[None])  # type: ignore[index]


def test_heads_and_channels_of_mamba_are_scored_at_x() -> None:
    """Minitron-SSM: channels over heads, then heads over the best channels, in rows of their group."""
    (u,) = taps("L0.norm")
    inner = 4 * 3
    x = (u @ WEIGHTS[f"{MAMBA}.in_proj"][inner : 2 * inner].T).view(5, 9, 4, 3)
    s = mean_then_l2(x)  # [heads, channels]
    channels = s.square().sum(0).sqrt()
    found = scores("activation").units["activation"]
    close(found["L0.mixer.head_dim"], channels[None])
    close(found["L0.mixer.heads_per_group"], s.square().sum(1).sqrt().view(2, 2))
    close(found["L0.mixer.n_groups"], s.view(2, -1).square().sum(1).sqrt()[None])
    best = sorted(range(3), key=lambda c: -float(channels[c]))[:2]
    top = scores("activation{top_channels=2}").units["activation"]
    close(top["L0.mixer.heads_per_group"], s[:, best].square().sum(1).sqrt().view(2, 2))
    close(top["L0.mixer.head_dim"], channels[None])


def test_heads_of_attention_over_their_channels_of_aggregates_or_of_each_token() -> None:
    (y,) = taps("L1.mixer.heads")
    s = mean_then_l2(y)
    found = scores("activation").units["activation"]
    close(found["L1.mixer.queries_per_kv"], s.square().sum(1).sqrt().view(2, 2))
    close(found["L1.mixer.head_dim"], s.square().sum(0).sqrt()[None])
    each = scores("activation{join=tokens}").units["activation"]
    close(each["L1.mixer.queries_per_kv"], mean_then_l2(y.norm(dim=-1)).view(2, 2))
    close(each["L1.mixer.n_kv_heads"], mean_then_l2(y.view(5, 9, 2, -1).norm(dim=-1))[None])


@pytest.mark.parametrize("sequence", ["mean", "sum", "l2", "max"])
@pytest.mark.parametrize("batch", ["l2", "mean", "sum"])
def test_aggregation_over_tokens_and_samples(sequence: str, batch: str) -> None:
    (h,) = taps("L2.mixer.hidden")
    over_tokens = {
        "mean": lambda v: v.abs().mean(0),
        "sum": lambda v: v.abs().sum(0),
        "l2": lambda v: v.square().sum(0).sqrt(),
        "max": lambda v: v.abs().max(0).values,
    }[sequence]
    rows = torch.stack([over_tokens(sample) for sample in h])
    expected = {"l2": rows.square().sum(0).sqrt(), "mean": rows.mean(0), "sum": rows.sum(0)}[batch]
    found = scores(f"activation{{sequence={sequence}, batch={batch}}}")
    close(found.units["activation"]["L2.mixer.d_ff"], expected[None])


# -- experts -----------------------------------------------------------------------------------------------------------


def expert_terms(node: str, scope: str, x: Tensor, width: int) -> Iterator[tuple[int, int, int, Tensor, Tensor]]:
    """(sample, token, expert, hidden, weighted output) of every choice, one at a time."""
    logits, choice = taps(f"{node}.experts", f"{node}.choice")
    gate = WEIGHTS.get(f"{scope}.gate_proj")
    for t, (row, chosen) in enumerate(zip(logits, choice.tolist(), strict=True)):
        p = row.sigmoid() if gate is not None else row.softmax(-1)
        for e in chosen:
            h = WEIGHTS[f"{scope}.up_proj"][e] @ x.view(-1, width)[t]
            h = (
                F.silu(WEIGHTS[f"{scope}.gate_proj"][e] @ x.view(-1, width)[t]) * h
                if gate is not None
                else F.relu(h) ** 2
            )
            weight = p[e] / (p[chosen].sum() + 1e-20)
            yield t // 9, t % 9, e, h, weight * (h @ WEIGHTS[f"{scope}.down_proj"][e])


@pytest.mark.parametrize(("node", "scope"), [("L3", MOE), ("L4", LATENT)])
def test_experts_are_scored_by_gate_weight_times_output(node: str, scope: str) -> None:
    mixer = f"{node}.mixer"
    x = taps(f"{mixer}.latent" if node == "L4" else f"{node}.norm")[0]
    dims = GRAPH.node(mixer).op.dims
    experts, width = dims["experts"].size, x.shape[-1]
    expected, often = torch.zeros(experts, dtype=torch.float64), torch.zeros(experts, dtype=torch.float64)
    hidden = torch.zeros(5, 9, experts, dims["d_ff"].size, dtype=torch.float64)
    outs = torch.zeros(5, 9, experts, width, dtype=torch.float64)
    for b, t, e, h, out in expert_terms(mixer, scope, x, width):
        expected[e] += out.norm() / 45
        often[e] += 1 / 45
        hidden[b, t, e], outs[b, t, e] = h, out
    close(scores("expert").units["expert"][f"{mixer}.experts"], expected[None])
    close(scores("expert{by=choice}").units["expert"][f"{mixer}.experts"], often[None])
    found = scores("activation").units["activation"]
    close(found[f"{mixer}.d_ff"], mean_then_l2(hidden))
    close(found[f"{mixer}.experts"], mean_then_l2(outs).norm(dim=-1)[None])
    if node == "L4":
        close(found[f"{mixer}.latent"], mean_then_l2(outs.sum(2))[None])


@pytest.mark.parametrize("how", ["sequence=l2", "sequence=max", "join=tokens"])
def test_an_expert_that_is_not_chosen_is_zero(how: str) -> None:
    """The aggregates of chosen units are those of the whole values, zeros included."""
    hidden = torch.zeros(5, 9, 5, 7, dtype=torch.float64)
    for b, t, e, h, _ in expert_terms("L3.mixer", MOE, taps("L3.norm")[0], 12):
        hidden[b, t, e] = h.abs()
    rows = {"sequence=l2": hidden.norm(dim=1), "sequence=max": hidden.amax(1), "join=tokens": hidden.mean(1)}[how]
    close(scores(f"activation{{{how}}}").units["activation"]["L3.mixer.d_ff"], rows.square().sum(0).sqrt())


# -- weights -----------------------------------------------------------------------------------------------------------


def owned_by_hand(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over everything of an mlp's hidden unit, of the stream's, and of a mamba head."""
    up, down = values[f"{MLP}.up_proj"], values[f"{MLP}.down_proj"]
    heads = values[f"{MAMBA}.A_log"] + values[f"{MAMBA}.D"] + values[f"{MAMBA}.dt_bias"]
    proj, inner, bc = values[f"{MAMBA}.in_proj"], 12, 10
    heads = heads + proj[:inner].view(4, -1).sum(1) + proj[inner : 2 * inner].view(4, -1).sum(1)
    heads = heads + proj[2 * inner + 2 * bc :].sum(1) + values[f"{MAMBA}.norm"].view(4, -1).sum(1)
    heads = heads + values[f"{MAMBA}.conv_weight"][:inner].reshape(4, -1).sum(1)
    heads = heads + values[f"{MAMBA}.conv_bias"][:inner].view(4, -1).sum(1)
    heads = heads + values[f"{MAMBA}.out_proj"].view(12, 4, 3).sum((0, 2))
    experts = values[f"{MOE}.up_proj"] + values[f"{MOE}.gate_proj"] + values[f"{MOE}.down_proj"]
    return {
        "L2.mixer.d_ff": (up.sum(1) + down.sum(0))[None],
        "L0.mixer.heads_per_group": heads.view(2, 2),
        "L3.mixer.d_ff": experts.sum(2),
    }


def test_weight_norm_is_the_root_of_all_squares_that_a_unit_owns() -> None:
    found = measure(GRAPH, WEIGHTS, [], "weight_norm").units["weight_norm"]
    expected = owned_by_hand({k: w.square() for k, w in WEIGHTS.items()})
    for name, total in expected.items():
        close(found[name], total.sqrt())


def test_a_parameter_with_a_dim_on_two_axes_counts_the_crossing_once() -> None:
    """The joint of multi-token prediction is [d_model, embed: d_model | hidden: d_model]."""
    scope = next(k for k in WEIGHTS if k.endswith("joint.proj"))
    squares = {k: torch.zeros_like(w) if k != scope else w.square() for k, w in WEIGHTS.items()}
    total = owned(GRAPH, squares)["d_model"][0]
    proj = squares[scope].view(12, 2, 12)
    for i in range(12):
        mine = torch.zeros(12, 2, 12, dtype=torch.bool)
        mine[i] = True
        mine[:, :, i] = True
        close(total[i], proj[mine].sum())


def test_pieces_cover_every_element_once() -> None:
    for node, param in GRAPH.params():
        value = torch.arange(math.prod(param.shape)).reshape(param.shape)
        parts = [p.flatten() for p, _ in pieces(value, param.axes)]
        assert torch.equal(torch.cat(parts).sort().values, value.flatten()), (node.id, param.name)


def test_taylor_is_weight_times_gradient_summed_over_what_a_unit_owns() -> None:
    weights = {k: w.clone().requires_grad_() for k, w in WEIGHTS.items()}
    logits = execute(GRAPH, weights, TOKENS, outputs=("logits",))["logits"]
    F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), TOKENS[:, 1:].reshape(-1)).backward()  # type: ignore[no-untyped-call]
    zero = torch.zeros((), dtype=torch.float64)
    products = {k: (w.detach() * w.grad if w.grad is not None else zero.expand(w.shape)) for k, w in weights.items()}
    found = scores("taylor").units["taylor"]
    for name, total in owned_by_hand(products).items():
        close(found[name], total.abs())


def test_taylor_predicts_the_loss_of_a_unit_that_shrinks_a_little() -> None:
    found = scores("taylor").units["taylor"]["L2.mixer.d_ff"][0]

    def loss(weights: Mapping[str, Tensor]) -> float:
        logits = execute(GRAPH, weights, TOKENS, outputs=("logits",))["logits"]
        return float(F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), TOKENS[:, 1:].reshape(-1)))

    for unit in range(3):
        changed = {k: w.clone() for k, w in WEIGHTS.items()}
        changed[f"{MLP}.up_proj"][unit] *= 1 - 1e-6
        changed[f"{MLP}.down_proj"][:, unit] *= 1 - 1e-6
        np.testing.assert_allclose(abs(loss(changed) - loss(WEIGHTS)) / 1e-6, found[unit], rtol=1e-3, atol=1e-7)


# -- layers ------------------------------------------------------------------------------------------------------------


def silent(layer: int, weights: Mapping[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    """Weights with which a layer's mixer adds nothing."""
    return {k: torch.zeros_like(w) if k.startswith(f"layers.{layer}.mixer") else w for k, w in weights.items()}


def ends(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    found = execute(GRAPH, weights, TOKENS)
    return found["logits"], found["hidden"]


def test_influence_is_one_less_the_cosine_of_the_stream() -> None:
    stream = taps("embedding", *(f"L{i}.add" for i in range(5)))
    found = scores("influence").blocks["influence"]
    for i, (x, y) in enumerate(itertools.pairwise(stream)):
        cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(x.view(-1, 12), y.view(-1, 12), strict=True)]
        close(found[f"L{i}"], 1 - sum(cosines) / len(cosines))


def test_what_is_lost_without_a_block() -> None:
    found = scores("logit_mse, hidden_mse, kl, perplexity").blocks
    full, hidden = ends(WEIGHTS)
    for i in range(5):
        logits, after = ends(silent(i))
        close(found["logit_mse"][f"L{i}"], ((full - logits) ** 2).sum() / (full**2).sum())
        close(found["hidden_mse"][f"L{i}"], ((hidden - after) ** 2).mean())
        p, q = full.softmax(-1), logits.softmax(-1)
        close(found["kl"][f"L{i}"], (p * (p / q).log()).sum(-1).mean())
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), TOKENS[:, 1:].reshape(-1))
        close(found["perplexity"][f"L{i}"], loss.exp())


def test_iterative_removes_the_least_important_and_measures_again() -> None:
    full, _ = ends(WEIGHTS)
    weights, order = dict(WEIGHTS), []
    while len(order) < 5:
        loss = {i: float(((full - ends(silent(i, weights))[0]) ** 2).sum()) for i in range(5) if i not in order}
        order.append(min(loss, key=loss.__getitem__))
        weights = silent(order[-1], weights)
    found = scores("iterative").blocks["iterative"]
    assert sorted(found, key=found.__getitem__) == [f"L{i}" for i in order]
    first = scores("iterative{remove=1}").blocks["iterative"]
    once = scores("logit_mse").blocks["logit_mse"]
    assert sorted(first, key=first.__getitem__) == sorted(once, key=once.__getitem__)


# -- what holds of all -------------------------------------------------------------------------------------------------


def test_every_estimator_is_registered_and_round_trips() -> None:
    assert {one.name for one in parse_estimators(EVERY)} == {cls.name for cls in registered_estimators()}
    text = "activation{sequence=l2, taps=(up), top_channels=3}, iterative{measure=kl, remove=2}"
    assert ", ".join(map(str, parse_estimators(text))) == text


def test_batches_may_be_cut_anyhow() -> None:
    """One batch, or single samples from a generator: the same scores."""
    whole, single = scores(EVERY), measure(GRAPH, WEIGHTS, (t[None] for t in TOKENS), EVERY)
    assert whole.about == {**single.about} and whole.about["tokens"] == 45
    assert whole.units.keys() == single.units.keys() and whole.blocks.keys() == single.blocks.keys()
    for by, dims in whole.units.items():
        for name, values in dims.items():
            close(single.units[by][name], values)
    for by, blocks in whole.blocks.items():
        close(list(single.blocks[by].values()), list(blocks.values()))


def scored_dims(graph: Graph) -> dict[str, Dim]:
    """Every dim that scores may be of, by the name that they have."""
    return {**graph.dims, **{per_unit(dim): dim for dim in finer(graph).values()}}


def test_scores_fit_their_dims() -> None:
    known = scored_dims(GRAPH)
    for dims in scores(EVERY).units.values():
        for name, values in dims.items():
            assert values.shape == (max(known[name].rows, 1), known[name].size)
            assert (values >= 0).all() and np.isfinite(values).all()


def test_channels_that_heads_share_are_scored_head_by_head_too() -> None:
    for by in ("activation", "weight_norm"):
        found = scores(by).units[by]
        apart = found["L0.mixer.head_dim per heads_per_group"]
        close(np.sqrt((apart**2).sum(axis=0, keepdims=True)), found["L0.mixer.head_dim"])
        assert apart.shape == (4, GRAPH.dims["L0.mixer.head_dim"].size)


def test_permuted_weights_have_permuted_scores() -> None:
    chosen = [
        keep(GRAPH.dims["L2.mixer.d_ff"], np.arange(10)[::-1].copy()),
        keep(GRAPH.dims["L0.mixer.heads_per_group"], [[1, 0], [0, 1]]),
        keep(GRAPH.dims["L3.mixer.experts"], [2, 0, 4, 1, 3]),
        keep(GRAPH.dims["d_model"], np.random.default_rng(0).permutation(12)),
    ]
    made, weight_map = select(GRAPH, chosen)
    every = EVERY.replace(", taylor", "")
    found = measure(made, weight_map.apply(WEIGHTS), [TOKENS], every)
    before = scores(every)
    for one in chosen:
        for by in ("activation", "weight_norm"):
            expected = np.take_along_axis(before.units[by][one.dim.name], one.index, axis=1)
            close(found.units[by][one.dim.name], expected)
    close(found.units["activation"]["L3.mixer.d_ff"], before.units["activation"]["L3.mixer.d_ff"][[2, 0, 4, 1, 3]])
    close(list(found.blocks["kl"].values()), list(before.blocks["kl"].values()))


def test_documents_of_a_packed_batch_do_not_meet() -> None:
    """Two documents in one row predict nothing of each other: the loss is that of both alone."""
    a, b = TOKENS[:1, :4], TOKENS[1:2, :5]
    segments = torch.tensor([[0] * 4 + [1] * 5])
    packed = {"tokens": torch.cat([a, b], dim=1), "segments": segments}
    estimators = "taylor, perplexity, kl"
    together, apart = (measure(GRAPH, WEIGHTS, batches, estimators) for batches in ([packed], [a, b]))
    close(list(together.blocks["perplexity"].values()), list(apart.blocks["perplexity"].values()))
    close(list(together.blocks["kl"].values()), list(apart.blocks["kl"].values()))
    close(together.units["taylor"]["L2.mixer.d_ff"], apart.units["taylor"]["L2.mixer.d_ff"])


def test_what_is_kept_does_not_grow_with_the_batches() -> None:
    """After forty batches as many tensors are alive as after three."""
    alive: list[int] = []

    def batches() -> Iterator[Tensor]:
        for i in range(40):
            yield TOKENS[i % 5 : i % 5 + 1, :4]
            if i in (2, 39):
                gc.collect()
                alive.append(sum(type(o) is Tensor for o in gc.get_objects()))

    measure(GRAPH, WEIGHTS, batches(), "activation, expert, taylor, influence, kl")
    assert alive[1] <= alive[0]


def test_one_run_serves_all_that_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Mapping[str, Tensor]] = []

    def counted(*args: Any, **more: Any) -> dict[str, Tensor]:
        runs.append(args[2])
        return execute(*args, **more)

    monkeypatch.setattr(measuring, "execute", counted)
    scores("activation, expert, influence, activation{batch=mean}", TOKENS[:2], TOKENS[2:])
    assert [len(given["tokens"]) for given in runs] == [2, 3]


def test_two_of_one_name_stand_under_their_texts() -> None:
    found = scores("activation, activation{batch=mean}, influence")
    assert list(found.units) == ["activation", "activation{batch=mean}"]
    assert list(found.blocks) == ["influence"]


@pytest.mark.parametrize(
    ("estimators", "batches", "message"),
    [
        ("influence", [], "no batch of tokens was given, which `influence` needs"),
        ("influence", [TOKENS[0]], r"a batch is whole numbers \[B, L\]: got torch.int64 \[9\]"),
        ("influence", [TOKENS.double()], r"got torch.float64 \[5, 9\]"),
        ("influence", [{"token": TOKENS}], "a batch is tokens .*: got dict"),
        ("influence", [{"tokens": TOKENS, "segments": TOKENS[:1]}], r"segments must be \[5, 9\]"),
        ("activation{taps=(down)}", [TOKENS], "no op has the tap `down`"),
        ("activation{top_channels=0}", [TOKENS], "`top_channels` is at least 1"),
        ("iterative{remove=6}", [TOKENS], "there are 5 blocks to remove: got 6"),
        ("kl, kl", [TOKENS], "estimators given twice: kl"),
        ("taylor", [TOKENS[:, :1]], "no token of the batches has a next one"),
        ("perplexity", [TOKENS[:, :1]], "no token of the batches has a next one"),
    ],
)
def test_misuse_is_one_clear_error(estimators: str, batches: list[Tensor], message: str) -> None:
    with pytest.raises(PassError, match=message):
        measure(GRAPH, WEIGHTS, batches, estimators)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("activaton", "did you mean `activation`"),
        ("activation{sequence=median}", "`sequence`: input should be 'mean', 'sum', 'l2' or 'max'"),
        ("activation influence", "expected `,`"),
        ("", "expected an estimator"),
    ],
)
def test_text_that_does_not_read_has_a_caret(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_estimators(text)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArchcError, match="missing"):
        measure(GRAPH, {}, [TOKENS], "influence")


def test_a_graph_without_logits_has_no_removal_scores() -> None:
    bare = dataclasses.replace(GRAPH, outputs=(("hidden", "norm"),))
    with pytest.raises(PassError, match="has no output `logits`"):
        measure(bare, WEIGHTS, [TOKENS], "kl")


@given(graphs())
@settings(max_examples=12, deadline=None)
def test_any_graph_is_measured(graph: Graph) -> None:
    """Scores of every unit fit; what a block is worth is what `drop-layers` loses with it."""
    weights = {k: w.double() for k, w in init_weights(graph, seed=1).items()}
    tokens = torch.arange(8).view(2, 4) % graph.dims["vocab"].size
    every = "activation, activation{join=tokens}, expert, weight_norm, taylor, influence, logit_mse"
    found = measure(graph, weights, [tokens], every)
    known = scored_dims(graph)
    for dims in found.units.values():
        for name, values in dims.items():
            assert values.shape == (max(known[name].rows, 1), known[name].size)
            assert (values >= 0).all() and np.isfinite(values).all()
    owned = {d.name for _, p in graph.params() for a in p.axes for d in a.dims()}
    assert set(found.units["weight_norm"]) & graph.dims.keys() == owned
    blocks = graph.blocks.get("layers", ())
    assert tuple(found.blocks.get("influence", ())) == tuple(found.blocks.get("logit_mse", ())) == blocks
    full = execute(graph, weights, tokens)["logits"]
    for i, block in enumerate(blocks):
        made, weight_map = apply(graph, f"drop-layers{{layers=({i})}}")
        logits = execute(made, weight_map.apply(weights), tokens)["logits"]
        changed = ((logits - full) ** 2).sum()
        close(found.blocks["logit_mse"][block], changed / (full**2).sum() if changed else 0.0)
