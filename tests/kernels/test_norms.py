"""Norms and activations against torch and transformers modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHRMSNorm, NemotronHRMSNormGated

from archc.kernels import reference as ref


def normed_by(module: torch.nn.Module, weight: torch.Tensor) -> torch.nn.Module:
    module.weight.data.copy_(weight)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_equals_nemotron_h(dtype: torch.dtype) -> None:
    x, weight = torch.randn(2, 3, 12, dtype=dtype) * 30, torch.randn(12)
    expected = normed_by(NemotronHRMSNorm(12, eps=1e-3), weight)(x)
    y = ref.rms_norm(x, weight, 1e-3)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gated_rms_norm_equals_nemotron_h(groups: int) -> None:
    y, z, weight = torch.randn(2, 3, 12), torch.randn(2, 3, 12), torch.randn(12)
    module = normed_by(NemotronHRMSNormGated(12, group_size=12 // groups, eps=1e-5), weight)
    torch.testing.assert_close(ref.gated_rms_norm(y, z, weight, 1e-5, groups), module(y, z))


def test_gated_rms_norm_works_in_fp32() -> None:
    y, z, weight = (torch.randn(s).bfloat16() for s in ((2, 3, 12), (2, 3, 12), (12,)))
    expected = ref.gated_rms_norm(y.float(), z.float(), weight.float(), 1e-5, 4).bfloat16()
    assert torch.equal(ref.gated_rms_norm(y, z, weight, 1e-5, 4), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_layer_norms(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 8, dtype=dtype)
    weight, bias = torch.randn(8, dtype=dtype), torch.randn(8, dtype=dtype)
    wide = x.double()
    unit = (wide - wide.mean(-1, keepdim=True)) / (wide.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    plain = (unit * weight.double() + bias.double()).to(dtype)
    centred = (unit * (1 + weight.double()) + bias.double()).to(dtype)
    torch.testing.assert_close(ref.layer_norm(x, weight, bias, 1e-5), plain)
    torch.testing.assert_close(ref.layer_norm_1p(x, weight, bias, 1e-5), centred)


@pytest.mark.parametrize(
    ("name", "theirs"), [("relu2", "relu2"), ("silu", "silu"), ("gelu", "gelu"), ("gelu_tanh", "gelu_pytorch_tanh")]
)
def test_activations_equal_transformers(name: str, theirs: str) -> None:
    x = 4 * torch.randn(50)
    torch.testing.assert_close(getattr(ref, name)(x), ACT2FN[theirs](x))


def test_clamped_swiglu_equals_gpt_oss() -> None:
    gate, up = 6 * torch.randn(5, 8), 6 * torch.randn(5, 8)
    module = GptOssExperts.__new__(GptOssExperts)
    torch.nn.Module.__init__(module)
    module.alpha, module.limit = 1.702, 7.0
    expected = module._apply_gate(torch.stack([gate, up], -1).flatten(-2))
    torch.testing.assert_close(ref.clamped_swiglu(gate, up, 1.702, 7.0), expected)


def test_gradients() -> None:
    x, z, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 8), (2, 8), (8,), (8,)))
    check = torch.autograd.gradcheck
    assert check(lambda *v: ref.rms_norm(*v, 1e-5), (x, w))
    assert check(lambda *v: ref.gated_rms_norm(*v, 1e-5, 2), (x, z, w))
    assert check(lambda *v: ref.layer_norm_1p(*v, 1e-5), (x, w, b))
    assert check(lambda *v: ref.clamped_swiglu(*v, 1.702, 0.5), (x, z))


def test_rearrangements() -> None:
    x = torch.randn(2, 3, 10)
    parts = ref.split(x, (5, 2, 3))
    assert [p.shape[-1] for p in parts] == [5, 2, 3]
    assert torch.equal(ref.concat_last(*parts), x)
    assert torch.equal(ref.clamp(x, -0.5, 0.5), x.clamp(-0.5, 0.5))
    assert ref.widen(x.half()).dtype == torch.float32
    assert ref.widen(x.double()).dtype == torch.float64
    tokens, table = torch.tensor([[1, 0], [2, 2]]), torch.randn(3, 4)
    assert torch.equal(ref.embedding(tokens, table), table[tokens])
    torch.testing.assert_close(ref.linear(x, torch.ones(4, 10), torch.ones(4)), F.linear(x, torch.ones(4, 10)) + 1)
