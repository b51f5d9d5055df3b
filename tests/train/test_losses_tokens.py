"""Losses on tokens against the formulas written out over whole logits: values, gradients, documents, memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError
from archc.train.batch import Batch
from archc.train.losses import Loss, Losses, Setting, chunked
from archc.train.losses.logit_kd import DIVERGENCES, LogitKD
from archc.train.losses.mtp import MTP
from archc.train.losses.next_token import NextToken
from archc.train.targets import TopK, Whole, top_k
from archc.train.teachers import LiveTeacher
from tests.train.losses_kit import batch_of, gradients, graph_of, mean, model_of

VOCAB = 24


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(mtp=2)


@pytest.fixture(scope="module")
def model(graph: Graph) -> Any:
    return model_of(graph)


@pytest.fixture(scope="module")
def teacher() -> LiveTeacher:
    graph = graph_of("M*", d_model=16, name="teacher")
    return LiveTeacher(graph, model_of(graph, seed=7))


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def batch(request: pytest.FixtureRequest) -> Batch:
    return batch_of(packed=request.param)


@pytest.fixture(params=[None, 3 * VOCAB, 1], ids=["one-chunk", "three-rows", "row-by-row"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", request.param)


def written_out(logits: Tensor, batch: Batch, ahead: int) -> list[tuple[int, int, Tensor, float]]:
    """(sequence, position, logits, weight) of everything that may be predicted, found token by token."""
    found = []
    for b, row in enumerate(batch.tokens):
        for t in range(len(row) - ahead):
            between = [0] * (ahead + 1) if batch.segments is None else batch.segments[b, t : t + ahead + 1].tolist()
            weight = 1.0 if batch.weights is None else float(batch.weights[b, t + ahead])
            if len(set(between)) == 1:
                found.append((b, t, logits[b, t], weight))
    return found


def entropy(logits: Tensor, batch: Batch, ahead: int) -> tuple[Tensor, float]:
    terms = [(w * cross_entropy(x, batch.tokens[b, t + ahead]), w) for b, t, x, w in written_out(logits, batch, ahead)]
    return torch.stack([x for x, _ in terms]).sum(), sum(w for _, w in terms)


def same(loss: Loss, expected: Tensor, model: Any, batch: Batch, setting: Setting) -> None:
    """The loss is as expected, and so are the gradients of every weight."""
    value = mean(loss, model, batch, setting)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-13)
    ours, theirs = gradients(value, model), gradients(expected, model)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-13, msg=name)


@pytest.mark.usefixtures("chunks")
def test_next_token_is_the_mean_cross_entropy(graph: Graph, model: Any, batch: Batch) -> None:
    total, count = entropy(model(batch.tokens, batch.segments), batch, 1)
    same(NextToken(), total / count, model, batch, Setting(graph))


@pytest.mark.usefixtures("chunks")
def test_mtp_predicts_further_with_the_same_weights(graph: Graph, model: Any, batch: Batch) -> None:
    h = model.hidden(batch.tokens, batch.segments)
    steps = model.mtp(h, batch.tokens, batch.segments)
    sums = [entropy(model.logits(x), batch, k + 1) for k, x in enumerate(steps, start=1)]
    assert len(sums) == 2
    expected = torch.stack([total for total, _ in sums]).sum() / sum(count for _, count in sums)
    same(MTP(), expected, model, batch, Setting(graph))

    losses = Losses([MTP()], Setting(graph))
    told = losses(model, batch).told()
    for k, (total, count) in enumerate(sums, start=1):
        torch.testing.assert_close(told[f"mtp/step_{k}"][0], total)
        assert told[f"mtp/step_{k}"][1] == count


def test_mtp_needs_a_model_that_has_it() -> None:
    with pytest.raises(ArchcError, match="`mtp` trains multi-token prediction, which student does not have"):
        Losses([MTP()], Setting(graph_of()))


def test_losses_of_one_pass_add_up_weighted(graph: Graph, model: Any, batch: Batch) -> None:
    setting = Setting(graph)
    losses = Losses([NextToken(weight=0.5), MTP(weight=0.3)], setting)
    together = losses(model, batch).objective(losses.counts(batch))
    apart = 0.5 * mean(NextToken(), model, batch, setting) + 0.3 * mean(MTP(), model, batch, setting)
    torch.testing.assert_close(together, apart)


def test_micro_batches_add_up_to_the_batch(graph: Graph, model: Any, teacher: LiveTeacher) -> None:
    batch = batch_of(4)
    losses = Losses([NextToken(), MTP(), LogitKD()], Setting(graph, {"big": teacher}))
    whole = losses(model, batch).objective(losses.counts(batch))
    parts = [batch.rows(0, 1), batch.rows(1, 4)]
    counts = torch.stack([losses.counts(part) for part in parts]).sum(0)
    torch.testing.assert_close(whole, torch.stack([losses(model, p).objective(counts) for p in parts]).sum())


# -- distillation ------------------------------------------------------------------------------------------------------


def oracle(kind: str, p: Tensor, q: Tensor, mix: float) -> Tensor:
    """Divergence of teacher probabilities p from a student's q by torch's own kl_div."""
    kl = lambda a, b: kl_div(b.log(), a.log(), reduction="sum", log_target=True)  # noqa: E731
    middle = mix * p + (1 - mix) * q
    return {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "mixture": lambda: mix * kl(p, q) + (1 - mix) * kl(q, p),
        "js": lambda: mix * kl(p, middle) + (1 - mix) * kl(q, middle),
    }[kind]()


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("divergence", list(DIVERGENCES))
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logits_are_distilled(
    graph: Graph, model: Any, teacher: LiveTeacher, batch: Batch, divergence: Any, temperature: float
) -> None:
    student = written_out(model(batch.tokens, batch.segments), batch, 1)
    taught = written_out(teacher.model(batch.tokens, batch.segments), batch, 1)
    terms = [
        w * oracle(divergence, (p / temperature).softmax(-1), (q / temperature).softmax(-1), 0.3)
        for (*_, q, w), (*_, p, _) in zip(student, taught, strict=True)
    ]
    expected = temperature**2 * torch.stack(terms).sum() / sum(w for *_, w in student)
    kd = LogitKD(divergence=divergence, temperature=temperature, mix=0.3)
    same(kd, expected, model, batch, Setting(graph, {"big": teacher}))
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())


def test_two_teachers_pull_as_their_mean(graph: Graph, model: Any, teacher: LiveTeacher) -> None:
    other = LiveTeacher(graph_of("-"), model_of(graph_of("-"), seed=3))
    batch, setting = batch_of(), Setting(graph, {"one": teacher, "two": other})
    losses = Losses([LogitKD(teacher="one", weight=0.75), LogitKD(teacher="two", weight=0.25)], setting)
    ours = gradients(losses(model, batch).objective(losses.counts(batch)), model)

    p = [t.model(batch.tokens, batch.segments).softmax(-1) for t in (teacher, other)]
    blend = (0.75 * p[0] + 0.25 * p[1]).log()
    logits = model(batch.tokens, batch.segments)
    rows = zip(written_out(logits, batch, 1), written_out(blend, batch, 1), strict=True)
    terms = [(w * kl_div(q.log_softmax(-1), m, reduction="sum", log_target=True), w) for (*_, q, w), (*_, m, _) in rows]
    theirs = gradients(torch.stack([x for x, _ in terms]).sum() / sum(w for _, w in terms), model)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-13, msg=name)


def test_vocabularies_must_agree(graph: Graph) -> None:
    other = graph_of("M", vocab=32)
    setting = Setting(graph, {"big": LiveTeacher(other, model_of(other))})
    message = "one vocabulary: the student student has 24 tokens, the teacher `big` has 32"
    with pytest.raises(ArchcError, match=message):
        Losses([LogitKD()], setting)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": 0.0}, "`temperature` must be above 0: got 0.0"), ({"mix": 1.0}, "`mix` must lie between")],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        LogitKD(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("divergence", list(DIVERGENCES))
@pytest.mark.parametrize("kept", [None, 2])
def test_gradcheck(divergence: Any, kept: int | None) -> None:
    g = torch.Generator().manual_seed(1)
    p = torch.randn(3, 6, dtype=torch.float64, generator=g)
    q = torch.randn(3, 6, dtype=torch.float64, generator=g, requires_grad=True)
    targets = Whole(p) if kept is None else top_k(p, kept, [2.0])

    def value(q: Tensor) -> Tensor:
        return DIVERGENCES[divergence](targets.log_probs(2.0), targets.bucketed(q, 2.0), 0.3)

    assert torch.autograd.gradcheck(value, q)
    assert (value(q) > 0).all() and value(p).abs().max() < 1e-12


def test_impossible_tokens_add_nothing() -> None:
    p = torch.tensor([[0.0, 1.0, -math.inf]], dtype=torch.float64)
    q = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    value = DIVERGENCES["forward_kl"](p.log_softmax(-1), q.log_softmax(-1), 0.5)
    (grad,) = torch.autograd.grad(value.sum(), q)
    torch.testing.assert_close(grad, torch.softmax(q, -1) - torch.softmax(p, -1))


# -- the likeliest tokens and the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_rest_is_one_bucket(temperature: float) -> None:
    g = torch.Generator().manual_seed(0)
    p, q = (4 * torch.randn(5, 9, dtype=torch.float64, generator=g) for _ in range(2))
    kept = top_k(p, 3, [0.5, 1.0, 2.0])
    for b in range(5):
        whole, other = (p[b] / temperature).softmax(-1), (q[b] / temperature).softmax(-1)
        best = whole.argsort(descending=True)[:3]
        expected = torch.cat([whole[best], 1 - whole[best].sum(0, keepdim=True)])
        torch.testing.assert_close(kept.log_probs(temperature)[b].exp(), expected)
        expected = torch.cat([other[best], 1 - other[best].sum(0, keepdim=True)])
        torch.testing.assert_close(kept.bucketed(q, temperature)[b].exp(), expected)


def test_few_buckets_bound_the_divergence_from_below() -> None:
    g = torch.Generator().manual_seed(0)
    p, q = (torch.randn(50, 9, dtype=torch.float64, generator=g) for _ in range(2))

    def divergence(targets: Whole | TopK) -> Tensor:
        return DIVERGENCES["forward_kl"](targets.log_probs(1.0), targets.bucketed(q, 1.0), 0.5)

    bounds = [divergence(top_k(p, k, [1.0])) for k in range(1, 9)]
    torch.testing.assert_close(bounds[-1], divergence(Whole(p)))  # the rest is one token
    assert all((less <= more + 1e-12).all() for less, more in itertools.pairwise(bounds))


def test_the_rest_of_a_sure_teacher_is_exact() -> None:
    """A student as sure as the teacher: 1 - sum of the kept probabilities would round to zero."""
    logits = torch.tensor([[200.0, 0.0, 1.0, 2.0]])
    kept = top_k(logits, 1, [1.0])
    torch.testing.assert_close(kept.tails, torch.logsumexp(logits[:, 1:], -1, keepdim=True) - 200.0)
    torch.testing.assert_close(kept.bucketed(logits, 1.0), kept.log_probs(1.0))


def test_a_temperature_that_is_not_kept() -> None:
    with pytest.raises(ArchcError, match=r"kept for temperature 1, 2: got 3"):
        top_k(torch.zeros(1, 4), 2, [1.0, 2.0]).log_probs(3.0)


# -- memory ------------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes while it is active."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(made) if isinstance(x, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return made


@pytest.mark.parametrize("loss", [NextToken(), MTP(), LogitKD(), LogitKD(divergence="js")], ids=lambda x: x.name)
def test_nothing_is_as_large_as_vocabulary_times_sequence(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, length, rows = 2048, 32, 8
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", rows * vocab)
    graph = graph_of("-", vocab=vocab, mtp=1)
    model = model_of(graph)
    setting = Setting(graph, {"big": LiveTeacher(graph, model_of(graph, seed=1))})
    losses, batch = Losses([loss], setting), batch_of(4, length, vocab=vocab)
    kept = []
    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, id):
        value = losses(model, batch).objective(losses.counts(batch))
    assert max(kept) <= vocab * 12  # the head; no logits are kept for the backward pass
    with Largest() as backward:
        losses(model, batch).objective(losses.counts(batch)).backward()
    assert value.isfinite()
    assert max(largest.elements, backward.elements) <= max(rows * vocab, vocab * 12) < 4 * length * vocab / 8
