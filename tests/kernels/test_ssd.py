"""The SSD scan against the recurrence, in pieces, in packed documents, exported, and counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from archc.kernels.reference import LayerState, decay_rates, ssd_scan, step_sizes
from tests.kernels.oracles import in_documents, ssd_reference

HEADS, CHANNELS, STATES = 4, 3, 5


def inputs(batch: int, tokens: int, groups: int, dtype: torch.dtype = torch.float64, seed: int = 0):
    """x, dt, A, B, C, D of a small scan."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)  # noqa: E731
    dt = torch.nn.functional.softplus(normal(batch, tokens, HEADS))
    bc = (batch, tokens, groups, STATES)
    return normal(batch, tokens, HEADS, CHANNELS), dt, -normal(HEADS).exp(), normal(*bc), normal(*bc), normal(HEADS)


def new_state(batch: int, dtype: torch.dtype = torch.float64) -> LayerState:
    return LayerState(ssm=torch.zeros(batch, HEADS, CHANNELS, STATES, dtype=dtype))


def cut(values, where: slice):
    x, dt, A, B, C, D = values
    return x[:, where], dt[:, where], A, B[:, where], C[:, where], D


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 7, 8, 9, 16, 21])
def test_equals_the_recurrence(tokens: int, groups: int) -> None:
    values = inputs(2, tokens, groups)
    torch.testing.assert_close(ssd_scan(*values, 4), ssd_reference(*values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pieces", [[21], [1] * 21, [1, 20], [5, 1, 7, 8], [4, 4, 13], [20, 1]])
def test_pieces_equal_the_whole(pieces: list[int]) -> None:
    values, state, start, parts = inputs(2, 21, 2), new_state(2), 0, []
    for n in pieces:
        parts.append(ssd_scan(*cut(values, slice(start, start + n)), 4, None, state))
        start += n
    torch.testing.assert_close(torch.cat(parts, 1), ssd_reference(*values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("boundary", range(1, 13))
def test_documents_do_not_see_each_other(boundary: int) -> None:
    tokens = 13
    values = [v.requires_grad_() for v in inputs(1, tokens, 2)]
    segments, documents = in_documents([boundary], tokens)
    weights = torch.randn(1, tokens, HEADS, CHANNELS, dtype=torch.float64)
    packed = ssd_scan(*values, 4, segments)
    alone = torch.cat([ssd_reference(*cut(values, d)) for d in documents], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-12, atol=1e-12)
    for a, b in zip(grads(packed, weights, values), grads(alone, weights, values), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def grads(y, weights, values):
    return torch.autograd.grad((y * weights).sum(), values, retain_graph=True)


def test_a_segment_that_comes_back_is_another_document() -> None:
    values = inputs(1, 10, 2)
    ids = torch.tensor([[3, 3, 3, 1, 1, 1, 1, 3, 3, 3]])
    alone = [ssd_reference(*cut(values, d)) for d in (slice(0, 3), slice(3, 7), slice(7, 10))]
    torch.testing.assert_close(ssd_scan(*values, 4, ids), torch.cat(alone, 1), rtol=1e-12, atol=1e-12)


def test_what_lies_in_another_document_cannot_poison() -> None:
    x, dt, A, B, C, D = inputs(1, 12, 2, torch.float32)
    segments, (first, second) = in_documents([6], 12)
    x[:, first], dt[:, first] = 1e30, 1e4
    y = ssd_scan(x, dt, A, B, C, D, 4, segments)
    expected = ssd_reference(*cut((x, dt, A, B, C, D), second))
    torch.testing.assert_close(y[:, second], expected, rtol=1e-5, atol=1e-5)


def test_a_state_goes_on_in_the_first_document_and_ends_in_the_last() -> None:
    values, state = inputs(1, 15, 2), new_state(1)
    ssd_scan(*cut(values, slice(0, 3)), 4, None, state)
    y = ssd_scan(*cut(values, slice(3, 13)), 4, torch.tensor([[0] * 4 + [1] * 6]), state)
    torch.testing.assert_close(y[:, :4], ssd_reference(*cut(values, slice(0, 7)))[:, 3:])
    rest = ssd_scan(*cut(values, slice(13, 15)), 4, None, state)
    torch.testing.assert_close(rest, ssd_reference(*cut(values, slice(7, 15)))[:, 6:])


@pytest.mark.parametrize("rate", [0.0, 1e-3, 50.0, 1e4])
def test_extreme_decays_stay_finite(rate: float) -> None:
    x, dt, _, B, C, D = (v.requires_grad_() for v in inputs(1, 24, 2, torch.float32))
    A = torch.full((HEADS,), -rate, requires_grad=True)
    y = ssd_scan(x, dt, A, B, C, D, 8)
    torch.testing.assert_close(y, ssd_reference(x, dt, A, B, C, D), rtol=1e-3, atol=1e-3)
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), (x, dt, A, B, C, D)))


@pytest.mark.parametrize("tokens", [1, 5])
def test_gradients(tokens: int) -> None:
    values = [v.requires_grad_() for v in inputs(1, tokens, 2)]
    assert torch.autograd.gradcheck(lambda *v: ssd_scan(*v, 2), values)


@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 9, 16, 20])
@pytest.mark.parametrize("with_state", [False, True])
def test_flops(tokens: int, with_state: bool) -> None:
    batch, groups, chunk = 2, 2, 8
    values = inputs(batch, tokens, groups, torch.float32)
    state = new_state(batch, torch.float32) if with_state else None
    with FlopCounterMode(display=False) as counter:
        ssd_scan(*values, chunk, None, state)
    assert counter.get_total_flops() == batch * flops_per_sequence(tokens, groups, chunk)


def flops_per_sequence(tokens: int, groups: int, chunk: int) -> int:
    if tokens == 1:
        return 4 * HEADS * STATES * CHANNELS
    q = min(chunk, tokens)
    heads = 2 * HEADS * q * q * CHANNELS + 2 * 2 * HEADS * q * STATES * CHANNELS
    return math.ceil(tokens / q) * (2 * groups * q * q * STATES + heads)


class Scan(torch.nn.Module):
    def forward(self, x, dt, A, B, C, D, segments):
        return ssd_scan(x, dt, A, B, C, D, 4, segments)


def test_export_holds_for_every_length() -> None:
    tokens = torch.export.Dim("tokens", min=2, max=512)
    along = {1: tokens}
    shapes = {"x": along, "dt": along, "A": None, "B": along, "C": along, "D": None, "segments": along}
    example = (*inputs(2, 11, 2), in_documents([5], 11)[0].expand(2, -1))
    program = torch.export.export(Scan(), example, dynamic_shapes=shapes)
    for n in (2, 3, 8, 30):
        values = (*inputs(2, n, 2, seed=n), in_documents([n // 2], n)[0].expand(2, -1))
        torch.testing.assert_close(program.module()(*values), Scan()(*values), rtol=1e-11, atol=1e-11)


def test_half_precision_computes_in_fp32() -> None:
    values = inputs(1, 9, 2, torch.bfloat16)
    y = ssd_scan(*values, 4)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, ssd_reference(*(v.float() for v in values)).bfloat16())


def test_step_sizes_and_decay_rates() -> None:
    dt, bias = torch.randn(2, 3, 4, dtype=torch.bfloat16), torch.randn(4)
    assert step_sizes(dt, bias).dtype == torch.float32
    torch.testing.assert_close(step_sizes(dt, bias), torch.log1p(torch.exp(dt.float() + bias)))
    torch.testing.assert_close(decay_rates(torch.zeros(3)), -torch.ones(3))
