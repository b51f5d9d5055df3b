"""Attention against one-query-at-a-time softmax: masks, windows, sinks, documents, caches, export, FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from archc.kernels.reference import LayerState, attention, sink_attention, sliding_attention
from tests.kernels.oracles import attention_reference, in_documents

HEADS, CHANNELS = 4, 6
MASKS: list[dict[str, Any]] = [
    {},
    {"causal": False},
    {"window": 1},
    {"window": 3},
    {"window": 50},
    {"sinks": torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)},
    {"sinks": torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64), "window": 3},
    {"sinks": torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64), "causal": False},
]
NAMES = ["-".join(m) or "causal" for m in MASKS]
masks = pytest.mark.parametrize("mask", MASKS, ids=NAMES)
causal_masks = pytest.mark.parametrize("mask", [m for m in MASKS if m.get("causal", True)])


def attend(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None, sinks: Any = None, **rest: Any) -> Tensor:
    """The primitive of a mask."""
    if window is not None:
        return sliding_attention(q, k, v, window, sinks=sinks, **rest)
    return attention(q, k, v, **rest) if sinks is None else sink_attention(q, k, v, sinks, **rest)


def inputs(tokens: int, groups: int = 2, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(batch, tokens, heads, CHANNELS) for heads in (HEADS, groups, groups)]
    return [torch.randn(s, dtype=dtype) for s in shapes]


def new_state(capacity: int, groups: int = 2, dtype: torch.dtype = torch.float64) -> LayerState:
    k, v = (torch.full((2, capacity, groups, CHANNELS), torch.nan, dtype=dtype) for _ in range(2))
    return LayerState(k=k, v=v)


@masks
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
def test_equals_softmax(tokens: int, groups: int, mask: dict[str, Any]) -> None:
    values = inputs(tokens, groups)
    torch.testing.assert_close(attend(*values, **mask), attention_reference(*values, **mask))


@causal_masks
@pytest.mark.parametrize("pieces", [[13], [1] * 13, [5, 8], [1, 1, 1, 2, 7, 1], [2, 3, 4, 4], [12, 1], [1, 12]])
def test_pieces_equal_the_whole(pieces: list[int], mask: dict[str, Any]) -> None:
    values = inputs(13)
    state = new_state(min(mask.get("window") or 16, 16))
    parts = []
    for q, k, v in zip(*(x.split(pieces, 1) for x in values), strict=True):
        parts.append(attend(q, k, v, **mask, state=state))
        state.length += q.shape[1]
    torch.testing.assert_close(torch.cat(parts, 1), attention_reference(*values, **mask))


@masks
@pytest.mark.parametrize("boundary", range(1, 8))
def test_documents_do_not_see_each_other(boundary: int, mask: dict[str, Any]) -> None:
    values = [x.requires_grad_() for x in inputs(8, batch=1)]
    segments, documents = in_documents([boundary], 8)
    packed = attend(*values, **mask, segments=segments)
    alone = torch.cat([attention_reference(*(x[:, d] for x in values), **mask) for d in documents], 1)
    torch.testing.assert_close(packed, alone)
    seed = torch.randn_like(packed)
    mine, theirs = (torch.autograd.grad(y, values, seed) for y in (packed, alone))
    torch.testing.assert_close(mine, theirs)


@masks
def test_gradients(mask: dict[str, Any]) -> None:
    values = [x.requires_grad_() for x in inputs(4, batch=1)]
    assert torch.autograd.gradcheck(lambda *v: attend(*v, **mask), values)


def test_sinks_have_gradients_and_equal_gpt_oss() -> None:
    q, k, v = inputs(6, dtype=torch.float32)
    sinks = torch.randn(HEADS, requires_grad=True)
    module = torch.nn.Module()
    module.sinks, module.num_key_value_groups, module.training = sinks, 2, False
    causal = torch.full((6, 6), -torch.inf).triu(1)[None, None]
    expected, _ = eager_attention_forward(module, *(x.transpose(1, 2) for x in (q, k, v)), causal, CHANNELS**-0.5)
    y = attend(q, k, v, sinks=sinks)
    torch.testing.assert_close(y, expected)
    seed = torch.randn_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, sinks, seed), torch.autograd.grad(expected, sinks, seed))


def test_a_state_in_fewer_bits_is_read_back_wide() -> None:
    values = inputs(5, dtype=torch.float32)
    state = new_state(8, dtype=torch.bfloat16)
    for t in range(5):
        y = attend(*(x[:, t : t + 1] for x in values), state=state)
        state.length += 1
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, attention_reference(*values)[:, -1:], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("window", [None, 50])
def test_more_tokens_than_the_state_holds(window: int | None) -> None:
    state = new_state(4)
    attend(*inputs(3), window=window, state=state)
    state.length = 3
    with pytest.raises(ValueError, match="the state holds 4 tokens: got 3 and 2 more"):
        attend(*inputs(2), window=window, state=state)


def test_a_state_is_causal_and_has_no_segments() -> None:
    with pytest.raises(ValueError, match="causal and takes no segments"):
        attend(*inputs(2), segments=torch.zeros(2, 2), state=new_state(4))
    with pytest.raises(ValueError, match="causal and takes no segments"):
        attend(*inputs(2), causal=False, state=new_state(4))


def test_flops() -> None:  # of the form with sinks: torch's counter does not know fused attention on a CPU
    sinks = torch.zeros(HEADS)
    values, state = inputs(5, dtype=torch.float32), new_state(8, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        attend(*values, sinks=sinks, state=state)
    assert counter.get_total_flops() == 2 * 4 * HEADS * CHANNELS * 5 * 5
    state.length = 5
    with FlopCounterMode(display=False) as counter:
        attend(*(x[:, :1] for x in values), sinks=sinks, state=state)
    assert counter.get_total_flops() == 2 * 4 * HEADS * CHANNELS * 6


@pytest.mark.parametrize("tokens", [24, 25, 60])
@pytest.mark.parametrize("sinks", [False, True])
def test_blocks_of_a_window_equal_softmax(tokens: int, sinks: bool) -> None:
    mask: dict[str, Any] = {"window": 5, "sinks": torch.randn(HEADS, dtype=torch.float64) if sinks else None}
    values, state = inputs(tokens), new_state(5)
    expected = attention_reference(*values, **mask)
    torch.testing.assert_close(attend(*values, **mask), expected)
    parts = []
    for q, k, v in zip(*(x.split([3, 12, tokens - 15], 1) for x in values), strict=True):
        parts.append(attend(q, k, v, **mask, state=state))
        state.length += q.shape[1]
    torch.testing.assert_close(torch.cat(parts, 1), expected)


def test_blocks_of_a_window_take_memory_of_the_window() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, Tensor) else 0)
            return out

    values = inputs(1000, batch=1)
    with Watch():
        attend(*values, window=4)
    assert largest < 1000 * 1000 / 10


class Module(torch.nn.Module):
    def __init__(self, mask: dict[str, Any]) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, q: Tensor, k: Tensor, v: Tensor, segments: Tensor | None) -> Tensor:
        return attend(q, k, v, **self.mask, segments=segments)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mask", [{}, {"window": 3}, {"sinks": torch.zeros(HEADS, dtype=torch.float64)}], ids=str)
def test_export_holds_for_every_length(mask: dict[str, Any], packed: bool) -> None:
    tokens = torch.export.Dim("tokens", min=2, max=512)
    module, segments = Module(mask), lambda n: in_documents([n // 2], n)[0].expand(2, -1) if packed else None
    along = {1: tokens}
    shapes = {"q": along, "k": along, "v": along, "segments": along if packed else None}
    program = torch.export.export(module, (*inputs(8), segments(8)), dynamic_shapes=shapes)
    for n in (2, 3, 30):
        values = *inputs(n), segments(n)
        torch.testing.assert_close(program.module()(*values), module(*values))
