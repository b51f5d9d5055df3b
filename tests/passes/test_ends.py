"""What changes at a model's ends: prune-vocab, tie-embeddings, untie-embeddings, drop-mtp."""

import pytest
import torch
from torch import Tensor

from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.kernels.errors import PassError
from archc.passes import apply
from archc.passes.prune_vocab import PruneVocab, id_ranges
from archc.resolve import load
from archc.spec.read_graph import read_graph

UNTIED = """archc graph 1
name small
dim vocab = 12 fixed
dim d_model = 8
dim L0.mixer.d_ff = 12
input tokens [batch, tokens]
embedding = embedding(tokens)
layers:
  L0.norm = rms_norm(embedding)
  L0.mixer = mlp(L0.norm)
  L0.add = add(embedding, L0.mixer)
norm = rms_norm(L0.add)
lm_head = lm_head(norm)
output logits = lm_head
"""

TIED = UNTIED.replace("lm_head = lm_head(norm)", "lm_head = lm_head(norm) @embedding")


def weights_of(graph: Graph) -> dict[str, Tensor]:
    return init_weights(graph, seed=1, dtype=torch.float64)


def logits(graph: Graph, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    return execute(graph, weights, tokens, outputs=["logits"])["logits"]


# -- vocabulary --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [UNTIED, TIED])
def test_fewer_tokens_before_and_after(text: str) -> None:
    before = parse_graph(text)
    made, weight_map = apply(before, "prune-vocab{keep=(9, (2, 5))}")
    assert made == parse_graph(text.replace("vocab = 12", "vocab = 5")).made_from(before)
    old = weights_of(before)
    kept = [9, 2, 3, 4, 5]
    tokens = torch.randint(5, (2, 7), generator=torch.Generator().manual_seed(0))
    expected = logits(before, old, torch.tensor(kept)[tokens])[..., kept]
    torch.testing.assert_close(logits(made, weight_map.apply(old), tokens), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ((3, 12), "`small` has the ids 0 to 11: got 12"),
        (((5, 4),), "got none"),
        ((3, (2, 4)), "ids named twice: 1 of 4"),
    ],
)
def test_ids_that_do_not_fit(keep: tuple[int | tuple[int, int], ...], message: str) -> None:
    with pytest.raises(PassError, match=message):
        apply(parse_graph(UNTIED), PruneVocab(keep=keep))


@pytest.mark.parametrize("ids", [[], [4], [4, 5], [4, 5, 6], [9, 8, 7], [0, 1, 2, 9, 3, 4, 5, 6]])
def test_ranges_are_the_ids(ids: list[int]) -> None:
    assert PruneVocab(keep=id_ranges(ids)).tokens == ids


# -- tied --------------------------------------------------------------------------------------------------------------


def test_untied_before_and_after() -> None:
    before = parse_graph(TIED)
    made, weight_map = apply(before, "untie-embeddings")
    assert made == parse_graph(UNTIED).made_from(before)
    old, tokens = weights_of(before), torch.arange(12)[None]
    assert torch.equal(logits(made, weight_map.apply(old), tokens), logits(before, old, tokens))


@pytest.mark.parametrize("source", ["embedding", "lm_head", "mean"])
def test_tied_before_and_after(source: str) -> None:
    before = parse_graph(UNTIED)
    made, weight_map = apply(before, f"tie-embeddings{{source={source}}}")
    assert made == parse_graph(TIED).made_from(before)
    old = weights_of(before)
    first, last = old["embedding.weight"], old["lm_head.weight"]
    expected = {"embedding": first, "lm_head": last, "mean": (first + last) / 2}[source]
    assert torch.equal(weight_map.apply(old)["embedding.weight"], expected)
    same = {**old, "lm_head.weight": first}
    tokens = torch.arange(12)[None]
    assert torch.equal(logits(made, weight_map.apply(same), tokens), logits(before, same, tokens))


def test_what_is_as_asked_for_stays() -> None:
    for text, one in ((TIED, "tie-embeddings"), (UNTIED, "untie-embeddings")):
        graph = parse_graph(text)
        made, weight_map = apply(graph, one)
        assert made == graph and not weight_map.dropped


# -- multi-token prediction --------------------------------------------------------------------------------------------


def test_one_step_instead_of_two() -> None:
    before = load("tiny-latent")
    made, weight_map = apply(before, "drop-mtp{steps=1}")
    spec, old_spec = read_graph(made), read_graph(before)
    assert spec.mtp is not None and old_spec.mtp is not None
    assert (spec.mtp.steps, old_spec.mtp.steps) == (1, 2)
    assert spec.mtp.layers == old_spec.mtp.layers and not weight_map.dropped
    old, tokens = init_weights(before, seed=0), torch.arange(8)[None]
    was, now = execute(before, old, tokens), execute(made, weight_map.apply(old), tokens)
    assert was.keys() - now.keys() == {"mtp.2"}
    assert all(torch.equal(now[name], was[name]) for name in now)


def test_no_steps_are_a_model_without() -> None:
    before = load("tiny-latent")
    made, weight_map = apply(before, "drop-mtp")
    assert not any(made.in_mtp(n) for n in made.nodes) and read_graph(made).mtp is None
    assert weight_map.dropped == {k for k in before.weight_shapes() if k.startswith("mtp")}


def test_more_steps_than_there_are() -> None:
    with pytest.raises(PassError, match="has 0 steps of multi-token prediction: got 1"):
        apply(parse_graph(UNTIED), "drop-mtp{steps=1}")
