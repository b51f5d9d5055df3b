"""Rotary embedding against transformers: frequencies bit for bit, and the rotation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from archc.kernels.reference import LayerState, rotary, rotary_frequencies
from tests.kernels.oracles import in_documents

LLAMA3 = {"kind": "llama3", "factor": 8.0, "original_context": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"kind": "yarn", "factor": 32.0, "original_context": 4096, "beta_fast": 32.0, "beta_slow": 1.0}


def theirs(head_dim: int, theta: float, scaling: dict[str, Any]) -> tuple[torch.Tensor, float]:
    """transformers' frequencies and factor for the same numbers under its names."""
    names = {"kind": "rope_type", "original_context": "original_max_position_embeddings"}
    numbers = {names.get(k, k): v for k, v in scaling.items()}
    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=int(scaling["original_context"] * scaling["factor"]),
        rope_parameters={"rope_theta": theta, **numbers},
    )
    return ROPE_INIT_FUNCTIONS[scaling["kind"]](config)


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("theta", [10000.0, 150000.0, 500000.0])
@pytest.mark.parametrize(
    "scaling",
    [
        LLAMA3,
        {**LLAMA3, "factor": 32.0, "high_freq_factor": 8.0},
        {**YARN, "truncate": True},
        {**YARN, "truncate": False},
        {**YARN, "truncate": True, "attention_factor": 1.7},
        {**YARN, "truncate": True, "original_context": 64, "beta_fast": 40.0},
    ],
    ids=["llama3", "llama3-steep", "yarn", "yarn-untruncated", "yarn-factor", "yarn-short"],
)
def test_scaled_frequencies_equal_transformers_bit_for_bit(
    head_dim: int, theta: float, scaling: dict[str, Any]
) -> None:
    inv_freq, factor = rotary_frequencies(head_dim, theta, scaling=scaling)
    expected, expected_factor = theirs(head_dim, theta, scaling)
    assert torch.equal(inv_freq, expected)
    assert factor == pytest.approx(expected_factor, rel=1e-15)


def test_default_and_partial_frequencies() -> None:
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 5e5}
    )
    inv_freq, factor = rotary_frequencies(64, 5e5)
    assert torch.equal(inv_freq, LlamaRotaryEmbedding(config).inv_freq) and factor == 1.0
    assert torch.equal(rotary_frequencies(64, 1e4, partial=0.25)[0], rotary_frequencies(16, 1e4)[0])


def test_given_frequencies_replace_the_computed_ones() -> None:
    inv_freq, factor = rotary_frequencies(8, 1e4, frequencies=(1.0, 0.5, 0.25), scaling=YARN)
    assert inv_freq.tolist() == [1.0, 0.5, 0.25]
    assert factor == pytest.approx(0.1 * math.log(32) + 1)


def test_rotation_equals_transformers() -> None:
    q, k, inv_freq = torch.randn(2, 7, 4, 16), torch.randn(2, 7, 2, 16), rotary_frequencies(16)[0]
    angles = torch.arange(7.0)[:, None] * inv_freq
    cos, sin = (torch.cat([1.5 * f(angles)] * 2, -1)[None] for f in (torch.cos, torch.sin))
    expected = apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=2)
    torch.testing.assert_close(rotary(q, k, inv_freq, 1.5), expected)


def test_only_the_first_channels_turn() -> None:
    q, k = torch.randn(1, 5, 2, 10), torch.randn(1, 5, 1, 10)
    inv_freq, _ = rotary_frequencies(10, partial=0.4)
    turned = rotary(q, k, inv_freq, 1.0)
    alone = rotary(q[..., :4], k[..., :4], inv_freq, 1.0)
    for part, whole, before in zip(alone, turned, (q, k), strict=True):
        assert torch.equal(whole[..., 4:], before[..., 4:])
        assert torch.equal(whole[..., :4], part)


@pytest.mark.parametrize("boundary", range(1, 7))
def test_positions_restart_with_a_document(boundary: int) -> None:
    q, k, inv_freq = torch.randn(1, 7, 2, 4), torch.randn(1, 7, 1, 4), torch.tensor([1.0, 0.1])
    segments, documents = in_documents([boundary], 7)
    packed = rotary(q, k, inv_freq, 1.0, segments)
    for i, whole in enumerate(packed):
        alone = torch.cat([rotary(q[:, d], k[:, d], inv_freq, 1.0)[i] for d in documents], 1)
        torch.testing.assert_close(whole, alone)


def test_positions_go_on_from_the_state() -> None:
    q, k, inv_freq = torch.randn(1, 7, 2, 4), torch.randn(1, 7, 1, 4), torch.tensor([1.0, 0.1])
    later = rotary(q[:, 4:], k[:, 4:], inv_freq, 1.0, None, LayerState(length=4))
    torch.testing.assert_close(later, tuple(x[:, 4:] for x in rotary(q, k, inv_freq, 1.0)))


def test_segments_and_a_state_exclude_each_other() -> None:
    q = torch.randn(1, 3, 2, 4)
    with pytest.raises(ValueError, match="segments or a state"):
        rotary(q, q, torch.ones(2), 1.0, torch.zeros(1, 3), LayerState())


class Rotation(torch.nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, segments: torch.Tensor | None) -> Any:
        return rotary(q, k, torch.tensor([1.0, 0.1]), 1.5, segments)


@pytest.mark.parametrize("packed", [False, True])
def test_export_holds_for_every_length(packed: bool) -> None:
    along = {1: torch.export.Dim("tokens", min=2, max=512)}
    shapes = {"q": along, "k": along, "segments": along if packed else None}

    def example(n: int) -> Any:
        segments = in_documents([n // 2], n)[0].expand(2, -1) if packed else None
        return torch.randn(2, n, 2, 6), torch.randn(2, n, 1, 6), segments

    program = torch.export.export(Rotation(), example(8), dynamic_shapes=shapes)
    for n in (2, 3, 30):
        values = example(n)
        torch.testing.assert_close(program.module()(*values), Rotation()(*values))


def test_half_precision_turns_in_fp32_at_far_positions() -> None:
    q, k, inv_freq = torch.randn(1, 2, 2, 4).bfloat16(), torch.randn(1, 2, 1, 4).bfloat16(), torch.tensor([1.0, 0.1])
    far = LayerState(length=100_001)
    mine = rotary(q, k, inv_freq, 1.0, None, far)
    exact = rotary(q.double(), k.double(), inv_freq, 1.0, None, far)
    assert mine[0].dtype == torch.bfloat16
    torch.testing.assert_close(mine, tuple(x.bfloat16() for x in exact), rtol=1e-2, atol=1e-2)


def test_gradients() -> None:
    q, k = (torch.randn(1, 3, h, 6, dtype=torch.float64, requires_grad=True) for h in (2, 1))
    inv_freq = torch.tensor([1.0, 0.1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, k: rotary(q, k, inv_freq, 1.5), (q, k))
