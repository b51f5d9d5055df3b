"""Routing and experts against transformers' modules and Python loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import GptOssConfig, NemotronHConfig, Qwen3MoeConfig
from transformers.activations import ACT2FN
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts, GptOssTopKRouter
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts, NemotronHTopkRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts, Qwen3MoeTopKRouter

from archc.kernels.reference import (
    clamped_swiglu,
    expert_hidden,
    expert_mlp,
    expert_outputs,
    held_expert_mlp,
    route,
)

E, F, D = 8, 4, 6  # experts, d_ff, d_model
FORMS: list[dict[str, Any]] = [
    {"activation": "relu2"},
    {"activation": "silu", "gated": True},
    {"activation": "gelu", "gated": True, "biased": True},
    {"activation": "gelu_tanh", "biased": True},
    {"activation": "clamped_swiglu", "gated": True, "biased": True, "alpha": 1.5, "limit": 0.6},
]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda f: f["activation"])


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter and buffer drawn from a normal distribution."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.normal_()
    return module


def in_order(weights: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
    order = experts.argsort(1)
    return weights.gather(1, order), experts.gather(1, order)


@pytest.mark.parametrize(("groups", "top_groups"), [(1, 1), (4, 2), (2, 1), (4, 4)])
@pytest.mark.parametrize("renormalize", [True, False])
def test_sigmoid_routing_equals_nemotron_h(groups: int, top_groups: int, renormalize: bool) -> None:
    config = NemotronHConfig(
        hidden_size=D,
        n_routed_experts=E,
        num_experts_per_tok=2,
        n_group=groups,
        topk_group=top_groups,
        norm_topk_prob=renormalize,
        routed_scaling_factor=2.5,
    )
    router = filled(NemotronHTopkRouter(config))
    logits, weights, experts = router(torch.randn(50, D))
    mine = route(
        logits,
        router.e_score_correction_bias,
        2,
        score="sigmoid",
        expert_groups=groups,
        top_groups=top_groups,
        renormalize=renormalize,
        scale=2.5,
    )
    torch.testing.assert_close(in_order(*mine), in_order(weights, experts))


@pytest.mark.parametrize("renormalize", [True, False])
def test_softmax_routing_equals_qwen3_moe(renormalize: bool) -> None:
    config = Qwen3MoeConfig(hidden_size=D, num_experts=E, num_experts_per_tok=3, norm_topk_prob=renormalize)
    logits, weights, experts = filled(Qwen3MoeTopKRouter(config))(torch.randn(50, D))
    mine = route(logits, None, 3, score="softmax", renormalize=renormalize)
    torch.testing.assert_close(in_order(*mine), in_order(weights, experts))


def test_softmax_routing_equals_gpt_oss() -> None:
    config = GptOssConfig(hidden_size=D, num_local_experts=E, num_experts_per_tok=3)
    logits, weights, experts = filled(GptOssTopKRouter(config))(torch.randn(50, D))
    torch.testing.assert_close(in_order(*route(logits, None, 3, score="softmax")), in_order(weights, experts))


def test_routing_is_decided_in_fp32() -> None:
    logits = torch.randn(5, E, dtype=torch.bfloat16)
    assert route(logits, None, 2, score="softmax")[0].dtype == torch.float32
    assert route(logits.double(), None, 2, score="sigmoid")[0].dtype == torch.float64


def test_a_masked_expert_is_never_chosen() -> None:
    bias = torch.zeros(E).index_fill(0, torch.tensor([1, 4]), -torch.inf)
    _, experts = route(torch.randn(100, E), bias, E - 2, score="sigmoid")
    assert set(experts.flatten().tolist()) == set(range(E)) - {1, 4}


def test_routing_has_gradients() -> None:
    logits = torch.randn(4, E, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(E, dtype=torch.float64)
    for score in ("sigmoid", "softmax"):
        assert torch.autograd.gradcheck(lambda x, s=score: route(x, bias, 3, score=s, scale=2.0)[0], logits)


def stacks(*, activation: str, gated: bool = False, biased: bool = False, **numbers: float) -> dict[str, Any]:
    """Keyword arguments of `expert_mlp`, in fp64."""
    normal = lambda *shape: torch.randn(shape, dtype=torch.float64)  # noqa: E731
    made: dict[str, Any] = {"up": normal(E, F, D), "down": normal(E, F, D), "activation": activation, **numbers}
    if gated:
        made["gate"] = normal(E, F, D)
    if biased:
        made |= {"up_bias": normal(E, F), "down_bias": normal(E, D)}
        made |= {"gate_bias": normal(E, F)} if gated else {}
    return made


def chosen(tokens: int, top_k: int = 3, among: int = E) -> tuple[Tensor, Tensor, Tensor]:
    experts = torch.rand(tokens, among).topk(top_k).indices
    return torch.randn(tokens, D, dtype=torch.float64), torch.rand(tokens, top_k, dtype=torch.float64), experts


def oracle(x: Tensor, weights: Tensor, experts: Tensor, **s: Any) -> Tensor:
    """One token and one expert at a time."""
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    rows = []
    for t in range(len(x)):
        total = torch.zeros(D, dtype=x.dtype)
        for weight, e in zip(weights[t], experts[t].tolist(), strict=True):
            up, gate = (
                s[n][e] @ x[t] + (s[f"{n}_bias"][e] if f"{n}_bias" in s else 0) if n in s else None
                for n in ("up", "gate")
            )
            if s["activation"] == "clamped_swiglu":
                h = clamped_swiglu(gate, up, s["alpha"], s["limit"])
            else:
                act = ACT2FN[names.get(s["activation"], s["activation"])]
                h = act(up) if gate is None else act(gate) * up
            total = total + weight * (h @ s["down"][e] + (s["down_bias"][e] if "down_bias" in s else 0))
        rows.append(total)
    return torch.stack(rows)


@forms
@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_experts_equal_the_loop(tokens: int, form: dict[str, Any]) -> None:
    values, kwargs = chosen(tokens), stacks(**form)
    torch.testing.assert_close(expert_mlp(*values, **kwargs), oracle(*values, **kwargs))


@forms
def test_experts_have_gradients(form: dict[str, Any]) -> None:
    x, weights, experts = chosen(5, among=E - 2)  # two experts that nobody chose
    kwargs = stacks(**form)
    tensors = {k: v for k, v in kwargs.items() if isinstance(v, Tensor)}
    rest = {k: v for k, v in kwargs.items() if k not in tensors}
    values = [v.requires_grad_() for v in (x, weights, *tensors.values())]

    def apply(x: Tensor, weights: Tensor, *given: Tensor) -> Tensor:
        return expert_mlp(x, weights, experts, **dict(zip(tensors, given, strict=True)), **rest)

    assert torch.autograd.gradcheck(apply, values)


@forms
@pytest.mark.parametrize(("tokens", "parts"), [(1, 4), (40, 2), (40, 8)])
def test_experts_held_apart_add_up(tokens: int, parts: int, form: dict[str, Any]) -> None:
    values, kwargs = chosen(tokens), stacks(**form)
    tensors = {k: v for k, v in kwargs.items() if isinstance(v, Tensor)}
    leaves = [v.requires_grad_() for v in (values[0], values[1], *tensors.values())]
    held, total = E // parts, torch.zeros_like(values[0])
    for first in range(0, E, held):
        here = {k: v[first : first + held] for k, v in tensors.items()}
        y = held_expert_mlp(*values, first, **{**kwargs, **here})
        assert all(g is not None for g in torch.autograd.grad(y.sum(), list(here.values()), retain_graph=True))
        total = total + y
    whole = expert_mlp(*values, **kwargs)
    torch.testing.assert_close(total, whole)
    got, wanted = (torch.autograd.grad(y.sin().sum(), leaves) for y in (total, whole))
    torch.testing.assert_close(got, wanted)


def test_experts_equal_nemotron_h() -> None:
    config = NemotronHConfig(hidden_size=D, n_routed_experts=E, moe_intermediate_size=F, mlp_hidden_act="relu2")
    config._experts_implementation = "eager"
    module = filled(NemotronHExperts(config))
    x, weights, experts = (v.float() if v.is_floating_point() else v for v in chosen(20))
    y = expert_mlp(x, weights, experts, module.up_proj, module.down_proj.mT, activation="relu2")
    torch.testing.assert_close(y, module(x, experts, weights))


def test_experts_equal_qwen3_moe() -> None:
    config = Qwen3MoeConfig(hidden_size=D, num_experts=E, moe_intermediate_size=F)
    config._experts_implementation = "eager"
    module = filled(Qwen3MoeExperts(config))
    x, weights, experts = (v.float() if v.is_floating_point() else v for v in chosen(20))
    gate, up = module.gate_up_proj.chunk(2, dim=1)
    y = expert_mlp(x, weights, experts, up, module.down_proj.mT, gate, activation="silu")
    torch.testing.assert_close(y, module(x, experts, weights))


def test_experts_equal_gpt_oss() -> None:
    config = GptOssConfig(hidden_size=D, num_local_experts=E, intermediate_size=F)
    config._experts_implementation = "eager"
    module = filled(GptOssExperts(config))
    x, weights, experts = (v.float() if v.is_floating_point() else v for v in chosen(20))
    stacked, biases = module.gate_up_proj.mT, module.gate_up_proj_bias
    y = expert_mlp(
        x,
        weights,
        experts,
        up=stacked[:, 1::2],
        down=module.down_proj,
        gate=stacked[:, ::2],
        up_bias=biases[:, 1::2],
        gate_bias=biases[:, ::2],
        down_bias=module.down_proj_bias,
        activation="clamped_swiglu",
    )
    torch.testing.assert_close(y, module(x, experts, weights))


@pytest.mark.parametrize("tokens", [1, 30])
def test_flops_are_of_the_chosen_experts(tokens: int) -> None:
    values, kwargs = chosen(tokens), stacks(activation="silu", gated=True)
    with FlopCounterMode(display=False) as counter:
        expert_mlp(*values, **kwargs)
    assert counter.get_total_flops() == tokens * 3 * 3 * 2 * D * F


def test_half_precision_sums_in_the_weights_dtype() -> None:
    x, weights, experts = chosen(9)
    kwargs = {k: v.bfloat16() if isinstance(v, Tensor) else v for k, v in stacks(activation="relu2").items()}
    y = expert_mlp(x.bfloat16(), weights.float(), experts, **kwargs)
    assert y.dtype == torch.bfloat16


class Experts(torch.nn.Module):
    def __init__(self, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.kwargs = kwargs

    def forward(self, x: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
        return expert_mlp(x, weights, experts, **self.kwargs)


@forms
def test_export_holds_for_every_length(form: dict[str, Any]) -> None:
    tokens = torch.export.Dim("tokens", min=2, max=512)
    module = Experts(stacks(**form))
    shapes = ({0: tokens},) * 3
    program = torch.export.export(module, chosen(8), dynamic_shapes=shapes)
    for n in (2, 3, 30):
        values = chosen(n)
        torch.testing.assert_close(program.module()(*values), module(*values))


@forms
def test_outputs_of_single_experts_sum_to_those_of_all(form: dict[str, Any]) -> None:
    x, weights, experts = chosen(9)
    stack = stacks(**form)
    down, down_bias = stack["down"], stack.get("down_bias")
    hidden = expert_hidden(x, experts, **{k: v for k, v in stack.items() if not k.startswith("down")})
    each = expert_outputs(hidden, weights, experts, down, down_bias)
    assert hidden.shape == (9, 3, F) and each.shape == (9, 3, D)
    torch.testing.assert_close(each.sum(1), expert_mlp(x, weights, experts, **stack))
