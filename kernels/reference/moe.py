"""Routing to experts, and the experts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive
from archc.kernels.reference.activations import clamped_swiglu, gelu, gelu_tanh, relu2, silu
from archc.kernels.reference.linear import widen


@primitive(results=("weights", "experts"))
def route(
    logits: torch.Tensor,
    correction_bias: torch.Tensor | None,
    top_k: int,
    *,
    score: str,
    expert_groups: int = 1,
    top_groups: int = 1,
    renormalize: bool = True,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, in fp32 or wider, and indices of each token's experts, [T, K] each, for logits [T, E].

    `score` is "sigmoid" or "softmax". The choice is made on score + correction_bias [E], within the `top_groups` of
    `expert_groups` whose two best experts sum highest; the weights are the scores themselves, made to sum to
    `scale` by `renormalize` (DeepSeek-V3 2024, section 2.1.2).
    """
    logits = widen(logits)
    scores = logits.sigmoid() if score == "sigmoid" else logits.softmax(-1)  # [T, E]
    choice = scores if correction_bias is None else scores + widen(correction_bias)
    if top_groups < expert_groups:
        choice = in_top_groups(choice, expert_groups, top_groups)
    experts = choice.topk(top_k, dim=-1).indices  # [T, K]
    weights = scores.gather(1, experts)
    if renormalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * scale, experts


@primitive
def in_top_groups(choice: torch.Tensor, expert_groups: int, top_groups: int) -> torch.Tensor:
    """choice [T, E] with -inf outside the `top_groups` groups whose two best experts sum highest."""
    grouped = torch.unflatten(choice, -1, (expert_groups, -1))  # [T, groups, E / groups]
    best = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)  # [T, groups]
    chosen = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(top_groups, dim=-1).indices, True)
    return grouped.masked_fill(~chosen[..., None], -torch.inf).flatten(-2)


@primitive
def expert_mlp(
    x: torch.Tensor,
    weights: torch.Tensor,
    experts: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    gate: torch.Tensor | None = None,
    up_bias: torch.Tensor | None = None,
    gate_bias: torch.Tensor | None = None,
    down_bias: torch.Tensor | None = None,
    *,
    activation: str,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> torch.Tensor:
    """The weighted sum of each token's K experts, [T, D], for x [T, D], weights and experts [T, K].

    up, gate and down [E, F, D]; up_bias and gate_bias [E, F]; down_bias [E, D]. `activation` is "relu2", "silu",
    "gelu", "gelu_tanh", or with a gate "clamped_swiglu" of `alpha` and `limit`. Experts nobody chose are not read.
    """
    if torch.compiler.is_compiling():
        return expert_mlp_dense(
            x, weights, experts, up, down, gate, up_bias, gate_bias, down_bias, activation, alpha, limit
        )
    pairs = experts.flatten()  # [T K]
    order = pairs.argsort(stable=True)  # pairs of token and choice by expert
    counts = pairs.bincount(minlength=up.shape[0]).tolist()
    hit = [e for e, n in enumerate(counts) if n > 0]
    rows = torch.split(x[order // experts.shape[1]], [counts[e] for e in hit])
    parts = (per_expert(stack, hit) for stack in (up, down, gate, up_bias, gate_bias, down_bias))
    outputs = [one_expert(activation, alpha, limit, *each) for each in zip(rows, *parts, strict=True)]
    by_pair = torch.cat(outputs)[order.argsort()].view(*experts.shape, -1)  # [T, K, D]
    return (by_pair * weights[..., None]).sum(1).to(x.dtype)


@primitive
def expert_hidden(
    x: torch.Tensor,
    experts: torch.Tensor,
    up: torch.Tensor,
    gate: torch.Tensor | None = None,
    up_bias: torch.Tensor | None = None,
    gate_bias: torch.Tensor | None = None,
    *,
    activation: str,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> torch.Tensor:
    """What each token's K experts have before their down-projection, [T, K, F]; arguments as for `expert_mlp`."""
    made = x.new_empty(*experts.shape, up.shape[1])
    for e in sorted(set(experts.flatten().tolist())):
        tokens, choices = (experts == e).nonzero(as_tuple=True)
        h = F.linear(x[tokens], up[e], None if up_bias is None else up_bias[e])
        g = None if gate is None else F.linear(x[tokens], gate[e], None if gate_bias is None else gate_bias[e])
        made[tokens, choices] = expert_unit(h, g, activation, alpha, limit)
    return made


@primitive
def expert_outputs(
    hidden: torch.Tensor,
    weights: torch.Tensor,
    experts: torch.Tensor,
    down: torch.Tensor,
    down_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weighted output of each of a token's K experts, [T, K, D]: their sum is that of `expert_mlp`.

    hidden [T, K, F] is that of `expert_hidden`, weights and experts [T, K].
    """
    made = hidden.new_empty(*experts.shape, down.shape[2])
    for e in sorted(set(experts.flatten().tolist())):
        pairs = (experts == e).nonzero(as_tuple=True)
        y = hidden[pairs] @ down[e]
        made[pairs] = y if down_bias is None else y + down_bias[e]
    return (made * weights[..., None]).to(hidden.dtype)


@primitive
def held_expert_mlp(
    x: torch.Tensor,
    weights: torch.Tensor,
    experts: torch.Tensor,
    first: int,
    up: torch.Tensor,
    down: torch.Tensor,
    gate: torch.Tensor | None = None,
    up_bias: torch.Tensor | None = None,
    gate_bias: torch.Tensor | None = None,
    down_bias: torch.Tensor | None = None,
    *,
    activation: str,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> torch.Tensor:
    """`expert_mlp` where only the experts from `first` on are here: choices of others contribute nothing.

    Of all chosen experts' outputs, those computed where each expert lies add up to that of `expert_mlp`.
    """
    here = (experts >= first) & (experts < first + up.shape[0])  # [T, K]
    weights = weights * here
    experts = (experts - first).where(here, 0)
    if torch.compiler.is_compiling():
        return expert_mlp_dense(
            x, weights, experts, up, down, gate, up_bias, gate_bias, down_bias, activation, alpha, limit
        )
    tokens, choices = here.nonzero(as_tuple=True)  # [P] each, of all pairs those that are computed here
    if len(tokens) == 0:  # a pair of weight zero, so that every parameter has a gradient
        tokens = choices = torch.zeros(1, dtype=torch.long, device=x.device)
    y = expert_mlp(
        x[tokens],
        weights[tokens, choices][:, None],
        experts[tokens, choices][:, None],
        up,
        down,
        gate,
        up_bias,
        gate_bias,
        down_bias,
        activation=activation,
        alpha=alpha,
        limit=limit,
    )  # [P, D]
    return torch.zeros_like(x, dtype=weights.dtype).index_add(0, tokens, y.to(weights.dtype)).to(x.dtype)


@primitive
def per_expert(stack: torch.Tensor | None, hit: list[int]) -> list[torch.Tensor | None]:
    """The parts of a stack [E, ...] that belong to the experts `hit`; None for each where there is no stack.

    For gradients the stack is unbound, not indexed: backward then stacks them once instead of adding E mostly
    empty tensors.
    """
    if stack is None:
        return [None for _ in hit]
    every = stack.unbind() if torch.is_grad_enabled() else stack
    return [every[e] for e in hit]


@primitive
def one_expert(
    activation: str,
    alpha: float,
    limit: float,
    x: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    gate: torch.Tensor | None,
    up_bias: torch.Tensor | None,
    gate_bias: torch.Tensor | None,
    down_bias: torch.Tensor | None,
) -> torch.Tensor:
    """One expert's output [T, D] for x [T, D]; up, gate and down [F, D]."""
    h = F.linear(x, up, up_bias)  # [T, F]
    g = None if gate is None else F.linear(x, gate, gate_bias)
    y = expert_unit(h, g, activation, alpha, limit) @ down
    return y if down_bias is None else y + down_bias


@primitive
def expert_unit(
    up: torch.Tensor, gate: torch.Tensor | None, activation: str, alpha: float, limit: float
) -> torch.Tensor:
    """activation(up), or activation(gate) * up."""
    if gate is not None and activation == "clamped_swiglu":
        return clamped_swiglu(gate, up, alpha, limit)
    unit = {"relu2": relu2, "silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh}[activation]
    return unit(up) if gate is None else unit(gate) * up


@primitive
def expert_mlp_dense(
    x: torch.Tensor,
    weights: torch.Tensor,
    experts: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    gate: torch.Tensor | None,
    up_bias: torch.Tensor | None,
    gate_bias: torch.Tensor | None,
    down_bias: torch.Tensor | None,
    activation: str,
    alpha: float,
    limit: float,
) -> torch.Tensor:
    """`expert_mlp` with every expert applied to every token: no shape depends on the data, as compiled graphs need."""
    share = torch.zeros(x.shape[0], up.shape[0], dtype=weights.dtype, device=x.device)
    share = share.scatter_add(1, experts, weights).t()  # [E, T]
    h = x @ up.transpose(1, 2)  # [E, T, F]
    if up_bias is not None:
        h = h + up_bias[:, None]
    g = None if gate is None else x @ gate.transpose(1, 2)
    if g is not None and gate_bias is not None:
        g = g + gate_bias[:, None]
    y = expert_unit(h, g, activation, alpha, limit) @ down  # [E, T, D]
    if down_bias is not None:
        y = y + down_bias[:, None]
    return (y * share[..., None]).sum(0).to(x.dtype)
