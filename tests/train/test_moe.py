"""Balance of experts: the auxiliary loss against transformers' own, the bias update, the figures for the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError
from archc.resolve import load
from archc.train.losses import Losses, Setting
from archc.train.losses.load_balance import LoadBalance, unbalance
from archc.train.moe import ExpertLoad, Router, figures, routers
from tests.train.losses_kit import batch_of, gradients, graph_of, mean, model_of


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of("M*EE", mtp=2)


@pytest.fixture
def model(graph: Graph) -> Any:
    return model_of(graph)


def test_routers_are_found_with_their_scopes(graph: Graph) -> None:
    assert [r.scope for r in routers(graph)] == ["layers.2.mixer", "layers.3.mixer", "mtp.layers.1.mixer"]
    assert all(r.experts == 4 and r.biased and r.score == "sigmoid" for r in routers(graph))
    assert len(routers(load("nemotron-3-super-120b-a12b"))) == 41  # LatentMoE: 40 layers and the one of MTP
    assert routers(graph_of("M-")) == ()


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_unbalance_is_that_of_transformers(top_k: int) -> None:
    """transformers divides choices by tokens: its loss of a balanced router is top_k."""
    transformers = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    router = Router("layers.0.mixer", 6, "softmax", biased=False)
    ours = unbalance(router, logits, logits.topk(top_k).indices)
    theirs = transformers.load_balancing_loss_func((logits,), 6, top_k) / top_k
    torch.testing.assert_close(ours.float(), theirs)
    grads = [torch.autograd.grad(x, logits)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_unbalance_is_1_at_balance_and_gradcheck(score: str) -> None:
    router = Router("layers.0.mixer", 4, score, biased=False)
    choice = torch.tensor([[0, 1], [2, 3]])
    even = unbalance(router, torch.zeros(2, 4, dtype=torch.float64), choice)
    assert even.item() == pytest.approx(1.0)
    logits = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    choice = logits.topk(2).indices
    assert torch.autograd.gradcheck(lambda x: unbalance(router, x, choice), logits)


def test_loss_is_the_mean_over_layers_and_reaches_routers(graph: Graph, model: Any) -> None:
    batch, setting = batch_of(), Setting(graph)
    value = mean(LoadBalance(), model, batch, setting)
    taps = [path for r in routers(graph)[:2] for path in (r.logits, r.choice)]
    _, found = model.hidden(batch.tokens, batch.segments, taps)
    each = []
    for router in routers(graph)[:2]:
        scores = found[router.logits].sigmoid()
        share = torch.stack([(found[router.choice] == e).double().mean() for e in range(4)])
        each.append(4 * (share * (scores / scores.sum(-1, keepdim=True)).mean(0)).sum())
    torch.testing.assert_close(value, torch.stack(each).mean())
    reached = gradients(value, model)
    assert {"layers.2.mixer.router", "layers.3.mixer.router"} <= reached.keys()


def test_loss_is_for_experts() -> None:
    with pytest.raises(ArchcError, match="`load_balance` is for mixtures of experts: student has none"):
        Losses([LoadBalance()], Setting(graph_of("M-")))


# -- load --------------------------------------------------------------------------------------------------------------


def test_load_counts_what_training_chose(graph: Graph, model: Any) -> None:
    counting, batch = ExpertLoad(model, graph), batch_of(2, 11)
    h = model.hidden(batch.tokens)
    model.mtp(h, batch.tokens)
    _, found = model.eval().hidden(batch.tokens, None, ["layers.2.mixer.router_choice"])  # evaluation does not count
    counts = counting.take()
    assert {scope: int(load.sum()) for scope, load in counts.items()} == {
        "layers.2.mixer": 2 * 22,
        "layers.3.mixer": 2 * 22,
        "mtp.layers.1.mixer": 2 * 2 * 22,  # two steps
    }
    expected = [(found["layers.2.mixer.router_choice"] == e).sum().item() for e in range(4)]
    assert counts["layers.2.mixer"].tolist() == expected
    assert not any(load.any() for load in counting.take().values())
    counting.close()
    model.train().hidden(batch.tokens)
    assert not any(load.any() for load in counting.take().values())


def test_bias_moves_towards_balance_by_its_rate(graph: Graph, model: Any) -> None:
    counting = ExpertLoad(model, graph)
    loads = {r.scope: torch.tensor([10, 0, 5, 5]) for r in routers(graph)}
    counting.balance(loads, rate=0.25)
    for router in routers(graph):
        bias = model.get_submodule(router.scope).correction_bias
        torch.testing.assert_close(bias, torch.tensor([-0.25, 0.25, 0.0, 0.0], dtype=bias.dtype))


def test_a_bias_too_coarse_to_move_is_refused(graph: Graph, model: Any) -> None:
    counting = ExpertLoad(model.bfloat16(), graph)
    with pytest.raises(ArchcError, match=r"layers\.2\.mixer\.correction_bias is kept in torch\.bfloat16"):
        counting.balance({r.scope: torch.arange(4) for r in routers(graph)}, rate=1e-3)


def skewed(model: Any) -> None:
    """Routers that prefer experts 0 and 1, whatever the token."""
    with torch.no_grad():
        for router in ("layers.2.mixer", "layers.3.mixer"):
            module = model.get_submodule(router)
            module.router.mul_(0.3)
            module.correction_bias.copy_(torch.tensor([1.0, 0.8, 0.0, 0.0]))


def overload(model: Any, graph: Graph, *, rate: float, steps: int) -> float:
    counting, batch = ExpertLoad(model, graph), batch_of(4, 64, packed=False)
    for _ in range(steps):
        model.hidden(batch.tokens)
        counts = counting.take()
        counting.balance(counts, rate=rate)
    counting.close()
    return figures(counts)["layers.2.mixer"].overload


def test_balancing_balances(graph: Graph, model: Any) -> None:
    skewed(model)
    before = overload(model, graph, rate=0.0, steps=1)
    after = overload(model, graph, rate=0.02, steps=100)
    assert before == 1.0  # all choices on half the experts
    assert after < 0.25


def test_loss_balances_too(graph: Graph, model: Any) -> None:
    """Trained on the loss alone, the router's own probabilities even out."""
    losses, batch = Losses([LoadBalance(weight=1.0)], Setting(graph)), batch_of(4, 64, packed=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    values = []
    for _ in range(30):
        value = losses(model, batch).objective(losses.counts(batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] - 1 < 0.5 * (values[0] - 1)


def test_figures_for_the_log() -> None:
    found = figures({"even": torch.tensor([5, 5]), "one": torch.tensor([8, 0, 0, 0]), "none": torch.zeros(4)})
    assert found["even"].shares == (0.5, 0.5) and found["even"].entropy == pytest.approx(1.0)
    assert (found["even"].overload, found["even"].idle) == (0.0, 0)
    assert (found["one"].entropy, found["one"].overload, found["one"].idle) == (0.0, 3.0, 3)
    assert "none" not in found


def _rank(rank: int, store: str, out: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    graph = graph_of("E")
    model = model_of(graph)
    counting = ExpertLoad(model, graph)
    model.hidden(batch_of(2, 8, packed=False, seed=rank).tokens)
    counts = counting.take(dist.group.WORLD)
    counting.balance(counts, rate=0.5)
    torch.save((counts, model.layers[0].mixer.correction_bias), f"{out}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_load_is_summed_over_ranks(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    (one, bias_one), (two, bias_two) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    graph = graph_of("E")
    model = model_of(graph)
    counting = ExpertLoad(model, graph)
    for seed in range(2):
        model.hidden(batch_of(2, 8, packed=False, seed=seed).tokens)
    expected = counting.take()["layers.0.mixer"]
    assert one["layers.0.mixer"].tolist() == two["layers.0.mixer"].tolist() == expected.tolist()
    torch.testing.assert_close(bias_one, bias_two)
