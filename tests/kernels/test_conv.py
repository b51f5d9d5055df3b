"""The causal convolution against torch's, in pieces, in packed documents, exported, and counted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from archc.kernels.reference import LayerState, causal_conv1d
from tests.kernels.oracles import in_documents

C, K = 5, 4


def parameters(kernel: int = K) -> tuple[Tensor, Tensor]:
    return torch.randn(C, kernel, dtype=torch.float64), torch.randn(C, dtype=torch.float64)


def oracle(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y[t, c] = sum over k of weight[c, k] x[t - K + 1 + k, c], in Python."""
    y = torch.zeros_like(x)
    for t in range(x.shape[1]):
        for k in range(weight.shape[1]):
            if (at := t - weight.shape[1] + 1 + k) >= 0:
                y[:, t] = y[:, t] + weight[:, k] * x[:, at]
    return y if bias is None else y + bias


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_sum_and_torch(tokens: int, kernel: int, biased: bool) -> None:
    weight, bias = parameters(kernel)
    bias = bias if biased else None
    x = torch.randn(2, tokens, C, dtype=torch.float64)
    y = causal_conv1d(x, weight, bias)
    torch.testing.assert_close(y, oracle(x, weight, bias))
    torchs = F.conv1d(x.mT, weight[:, None], bias, padding=kernel - 1, groups=C)[..., :tokens].mT
    torch.testing.assert_close(y, torchs)


@pytest.mark.parametrize("pieces", [[11], [1] * 11, [2, 9], [1, 2, 1, 7], [5, 5, 1]])
def test_pieces_equal_the_whole(pieces: list[int]) -> None:
    weight, bias = parameters()
    x = torch.randn(2, 11, C, dtype=torch.float64)
    state = LayerState(conv=torch.zeros(2, C, K - 1, dtype=torch.float64))
    parts = [causal_conv1d(part, weight, bias, None, state) for part in x.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), oracle(x, weight, bias))
    assert torch.equal(state.conv, x[:, -(K - 1) :].mT)


@pytest.mark.parametrize("boundary", range(1, 9))
def test_documents_do_not_see_each_other(boundary: int) -> None:
    values = [torch.randn(1, 9, C, dtype=torch.float64), *parameters()]
    x, weight, bias = (v.requires_grad_() for v in values)
    segments, documents = in_documents([boundary], 9)
    packed = causal_conv1d(x, weight, bias, segments)
    alone = torch.cat([oracle(x[:, d], weight, bias) for d in documents], 1)
    torch.testing.assert_close(packed, alone)
    seed = torch.randn_like(packed)
    mine, theirs = (torch.autograd.grad(y, (x, weight, bias), seed) for y in (packed, alone))
    torch.testing.assert_close(mine, theirs)


def test_a_state_goes_on_in_the_first_document() -> None:
    weight, bias = parameters()
    x = torch.randn(1, 8, C, dtype=torch.float64)
    state = LayerState(conv=x[:, :3].mT.clone())
    y = causal_conv1d(x[:, 3:], weight, bias, torch.tensor([[0, 0, 1, 1, 1]]), state)
    torch.testing.assert_close(y[:, :2], oracle(x[:, :5], weight, bias)[:, 3:])
    torch.testing.assert_close(y[:, 2:], oracle(x[:, 5:], weight, bias))


def test_gradients() -> None:
    x = torch.randn(2, 5, C, dtype=torch.float64)
    values = [v.requires_grad_() for v in (x, *parameters())]
    assert torch.autograd.gradcheck(causal_conv1d, values)


def test_flops() -> None:
    x, (weight, bias) = torch.randn(2, 7, C, dtype=torch.float64), parameters()
    with FlopCounterMode(display=False) as counter:
        causal_conv1d(x, weight, bias)
    assert counter.get_total_flops() == 2 * 7 * 2 * C * K


class Conv(torch.nn.Module):
    def forward(self, x, weight, bias, segments):
        return causal_conv1d(x, weight, bias, segments)


@pytest.mark.parametrize("packed", [False, True])
def test_export_holds_for_every_length(packed: bool) -> None:
    tokens = torch.export.Dim("tokens", min=2, max=512)
    segments = lambda n: in_documents([n // 2], n)[0].expand(2, -1) if packed else None  # noqa: E731
    shapes = {"x": {1: tokens}, "weight": None, "bias": None, "segments": {1: tokens} if packed else None}
    example = torch.randn(2, 8, C, dtype=torch.float64), *parameters(), segments(8)
    program = torch.export.export(Conv(), example, dynamic_shapes=shapes)
    for n in (2, 3, 50):
        values = torch.randn(2, n, C, dtype=torch.float64), *parameters(), segments(n)
        torch.testing.assert_close(program.module()(*values), Conv()(*values))
