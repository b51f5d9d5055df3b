"""Emitted models under what torch does to models: compiled to one graph, exported, in bf16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

SMALL = ("dense_hybrid", "everything")


@pytest.fixture
def model(compiled: Any) -> Iterator[Any]:
    """One of two models, in fp32."""
    if compiled.graph.name not in SMALL:
        pytest.skip("two of them show it")
    torch.compiler.reset()
    yield compiled.package.load(dtype=torch.float32)
    torch.compiler.reset()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 101, (2, 13), generator=torch.Generator().manual_seed(1))


def whole(function: Any) -> Any:
    """The function as one graph, run as it was traced."""
    return torch.compile(function, fullgraph=True, backend="eager")


def test_compiled_forward(model: Any, tokens: torch.Tensor) -> None:
    segments = torch.tensor([[0] * 5 + [1] * 8, [0] * 13])
    for given in ((tokens,), (tokens, segments)):
        torch.testing.assert_close(whole(model)(*given), model(*given))


def test_compiled_gradients(model: Any, tokens: torch.Tensor) -> None:
    parameters = [p for name, p in model.named_parameters() if not name.startswith("mtp")]
    right = torch.autograd.grad(model(tokens).square().mean(), parameters)
    found = torch.autograd.grad(whole(model)(tokens).square().mean(), parameters)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)


def test_compiled_state(model: Any, tokens: torch.Tensor) -> None:
    prefill, decode = whole(model.prefill), whole(model.decode)
    right, state = model(tokens).detach(), model.new_state(2, 13)
    torch.testing.assert_close(prefill(tokens[:, :5], state), right[:, 4], rtol=1e-4, atol=1e-4)
    for t in range(5, 13):
        torch.testing.assert_close(decode(tokens[:, t], state), right[:, t], rtol=1e-4, atol=1e-4)
    assert state.length == 13


def test_exported_for_any_length(model: Any, tokens: torch.Tensor) -> None:
    length = torch.export.Dim("length", min=2, max=64)
    exported = torch.export.export(model, (tokens,), dynamic_shapes=({1: length},)).module()
    for n in (13, 7):
        torch.testing.assert_close(exported(tokens[:, :n]), model(tokens[:, :n]), rtol=1e-4, atol=1e-4)


def test_bf16(model: Any, compiled: Any, tokens: torch.Tensor) -> None:
    narrow = compiled.package.load(dtype=torch.bfloat16)
    logits = narrow(tokens)
    assert logits.dtype == torch.bfloat16
    wide = model(tokens)
    assert (logits - wide).norm() < 0.1 * wide.norm()
    state = narrow.new_state(2, 13)
    narrow.prefill(tokens[:, :12], state)
    last = narrow.decode(tokens[:, 12], state)
    assert (last - wide[:, -1]).norm() < 0.1 * wide[:, -1].norm()
    logits.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for name, p in narrow.named_parameters() if not name.startswith("mtp"))
