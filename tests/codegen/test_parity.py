"""The emitted package computes what `ir.execute` computes: outputs, state, drafts and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from archc.ir.execute import execute

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(0, 101, (2, 13), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def segments() -> torch.Tensor:
    return torch.tensor([[0] * 5 + [1] * 8, [3] * 1 + [4] * 6 + [3] * 6])


@pytest.fixture(params=["alone", "packed"])
def packing(request: pytest.FixtureRequest, segments: torch.Tensor) -> torch.Tensor | None:
    return segments if request.param == "packed" else None


def expected(compiled: Any, tokens: torch.Tensor, segments: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    given = {"tokens": tokens} if segments is None else {"tokens": tokens, "segments": segments}
    with torch.no_grad():
        return execute(compiled.graph, compiled.weights, given)


def test_outputs(compiled: Any, tokens: torch.Tensor, packing: torch.Tensor | None) -> None:
    right = expected(compiled, tokens, packing)
    hidden = compiled.model.hidden(tokens, packing)
    torch.testing.assert_close(hidden, right["hidden"], **TIGHT)
    torch.testing.assert_close(compiled.model.logits(hidden), right["logits"], **TIGHT)
    torch.testing.assert_close(compiled.model(tokens, packing), right["logits"], **TIGHT)
    if "mtp.1" in right:
        steps = compiled.model.mtp(hidden, tokens, packing)
        assert len(steps) == sum(name.startswith("mtp.") for name in right)
        for k, step in enumerate(steps, 1):
            torch.testing.assert_close(step, right[f"mtp.{k}"], **TIGHT)


def test_prefill_in_pieces_then_decode(compiled: Any, tokens: torch.Tensor) -> None:
    right = expected(compiled, tokens)["logits"]
    state = compiled.model.new_state(2, 16)
    end = 0
    for piece in (1, 4, 3):
        end += piece
        logits = compiled.model.prefill(tokens[:, end - piece : end], state)
        torch.testing.assert_close(logits, right[:, end - 1], **TIGHT)
        assert state.length == end
    for t in range(end, 13):
        token = tokens[:, t] if t % 2 else tokens[:, t : t + 1]
        torch.testing.assert_close(compiled.model.decode(token, state), right[:, t], **TIGHT)
    assert not logits.requires_grad


def test_a_clone_goes_its_own_way(compiled: Any, tokens: torch.Tensor) -> None:
    state = compiled.model.new_state(2, 16)
    compiled.model.prefill(tokens[:, :6], state)
    other = state.clone()
    assert other.nbytes == state.nbytes == sum(t.nbytes for t in tree_leaves(state))
    moved = tree_map(torch.clone, state)
    right = compiled.model.prefill(tokens[:, 6:], state)
    for copy in (other, moved):
        assert copy.length == 6
        torch.testing.assert_close(compiled.model.prefill(tokens[:, 6:], copy), right)


def test_rewind(compiled: Any, tokens: torch.Tensor) -> None:
    state = compiled.model.new_state(2, 16)
    compiled.model.prefill(tokens[:, :9], state)
    bound = compiled.graph.name in ("dense_hybrid", "everything", "mamba_mtp")
    if bound:
        with pytest.raises(RuntimeError, match="cannot rewind: the state of Mamba2"):
            state.rewind(2)
        return
    state.rewind(4)
    right = expected(compiled, tokens)["logits"][:, 8]
    torch.testing.assert_close(compiled.model.prefill(tokens[:, 5:9], state), right, **TIGHT)
    with pytest.raises(ValueError, match="cannot rewind 10 tokens of 9"):
        state.rewind(10)


def test_drafts_follow_the_state(compiled: Any, tokens: torch.Tensor) -> None:
    if compiled.graph.name not in ("everything", "layer_norm"):
        pytest.skip("no multi-token prediction that can draft")
    model = compiled.model
    right = expected(compiled, tokens)
    state = model.new_state(2, 16)
    with torch.no_grad():
        h = model.hidden(tokens[:, :7], state=state)
        (first,) = model.mtp(h, tokens[:, :8], state=state)
        torch.testing.assert_close(first, right["mtp.1"][:, :7], **TIGHT)
        for t in range(7, 11):
            h = model.hidden(tokens[:, t : t + 1], state=state)
            model.mtp(h, tokens[:, t : t + 2], state=state)
            steps = model.mtp(h, tokens[:, t : t + 3], state=state)
            torch.testing.assert_close(steps[0], right["mtp.1"][:, t : t + 1], **TIGHT)
    assert len(steps) == 2


def test_gradients(compiled: Any, tokens: torch.Tensor, packing: torch.Tensor | None) -> None:
    given = {"tokens": tokens} if packing is None else {"tokens": tokens, "segments": packing}
    weights = {k: v.clone().requires_grad_() for k, v in compiled.weights.items()}
    mine = dict(compiled.model.named_parameters())
    outputs = execute(compiled.graph, weights, given)
    loss = sum(outputs[name].square().mean() for name in outputs)
    hidden = compiled.model.hidden(tokens, packing)
    steps = compiled.model.mtp(hidden, tokens, packing) if "mtp.1" in outputs else []
    values = [hidden, compiled.model.logits(hidden), *steps]
    right = torch.autograd.grad(loss, [weights[name] for name in mine], allow_unused=True)  # type: ignore[arg-type]
    found = torch.autograd.grad(sum(v.square().mean() for v in values), list(mine.values()), allow_unused=True)
    for name, a, b in zip(mine, found, right, strict=True):
        assert a is not None, name
        torch.testing.assert_close(a, b, **TIGHT, msg=name)


def test_names_are_scopes(compiled: Any) -> None:
    assert {k: tuple(v.shape) for k, v in compiled.model.state_dict().items()} == compiled.graph.weight_shapes()


def test_taps(compiled: Any, tokens: torch.Tensor) -> None:
    _, found = compiled.model.hidden(tokens, taps=["layers.0", "layers.1.mixer"])
    ids = [f"{compiled.graph.blocks['layers'][0]}.add", f"{compiled.graph.blocks['layers'][1]}.mixer"]
    right = execute(compiled.graph, compiled.weights, tokens, taps=ids)
    torch.testing.assert_close(found["layers.0"], right[ids[0]], **TIGHT)
    torch.testing.assert_close(found["layers.1.mixer"], right[ids[1]], **TIGHT)
