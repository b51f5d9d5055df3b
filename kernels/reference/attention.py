"""Softmax attention with grouped queries, windows, sinks, packed documents and a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from archc.kernels.primitive import primitive
from archc.kernels.reference.linear import widen
from archc.kernels.reference.segments import segment_runs

if TYPE_CHECKING:
    from archc.kernels.reference.state import LayerState


@primitive
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
    scale: float | None = None,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """y [B, L, H, P] for q [B, L, H, P] and k, v [B, L, G, P]; head h uses KV head h // (H / G).

    With `window` n position t sees t-n+1..t; `sinks` [H] adds a logit per head that no value belongs to;
    `scale` is 1 / sqrt(P) unless given. `state.k` and `state.v` [B, capacity, G, P] hold the tokens before:
    all of them, or with a window the last `capacity`, token t at t % capacity.

    Raises ValueError for a state with segments or without `causal`, and for more tokens than the state holds.
    """
    if state is not None and (segments is not None or not causal):
        raise ValueError("attention with a state is causal and takes no segments")
    tokens, scale = q.shape[1], q.shape[-1] ** -0.5 if scale is None else scale
    start = 0 if state is None else state.length
    if state is not None:
        k, v = with_cache(k, v, state, window)
    if state is not None and tokens == 1:
        return attend(q, k, v, None, False, sinks, scale)
    if window is not None and not torch.compiler.is_compiling():
        if causal and tokens > 2 * window:
            return attend_in_blocks(q, k, v, window, sinks, scale, segments)
        window = window if window < start + tokens else None
    if start == 0 and window is None and segments is None:
        return attend(q, k, v, None, causal, sinks, scale)
    seen = in_reach(tokens, k.shape[1], q.device, causal, window)
    if segments is not None:
        runs = segment_runs(segments)
        seen = (seen & (runs[:, :, None] == runs[:, None, :])).unsqueeze(1)
    return attend(q, k, v, seen, False, sinks, scale)


@primitive
def in_reach(tokens: int, keys: int, device: torch.device, causal: bool, window: int | None) -> torch.Tensor:
    """Which of S keys, the last L of them those of the queries, each of L queries may see: [L, S]."""
    queries, keys_at = torch.arange(keys - tokens, keys, device=device), torch.arange(keys, device=device)
    behind = queries[:, None] - keys_at
    seen = behind >= 0 if causal else torch.ones_like(behind, dtype=torch.bool)
    return seen if window is None else seen & (behind < window)


@primitive
def attend_in_blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
    sinks: torch.Tensor | None,
    scale: float,
    segments: torch.Tensor | None,
) -> torch.Tensor:
    """Sliding-window attention in n blocks of W = `window` queries, each on the keys of its block and the one before.

    q [B, L, H, P]; k and v [B, S, G, P], the last L of them those of the queries. No [L, S] mask is made.
    """
    batch, tokens = q.shape[:2]
    n, old = (tokens + window - 1) // window, k.shape[1] - tokens
    tail = n * window - tokens
    keys = torch.arange(-window, n * window, device=q.device).unfold(
        0, 2 * window, window
    )  # [n, 2 W], 0 the first query
    seen = in_reach(window, 2 * window, q.device, True, window) & (keys >= -old)[:, None]  # [n, W, 2 W]
    seen = seen.repeat(batch, 1, 1)  # [B n, W, 2 W]
    if segments is not None:
        runs = F.pad(segment_runs(segments), (window, tail))
        seen = seen & (runs[:, window:].reshape(-1, window, 1) == in_pairs(runs, window)[:, None])
    q = F.pad(q, (0, 0, 0, 0, 0, tail)).reshape(batch * n, window, *q.shape[2:])
    k, v = (in_pairs(F.pad(x, (0, 0, 0, 0, window - old, tail)), window) for x in (k, v))
    y = attend(q, k, v, seen.unsqueeze(1), False, sinks, scale)  # [B n, W, H, P]
    return y.reshape(batch, n * window, *y.shape[2:])[:, :tokens]


@primitive
def in_pairs(x: torch.Tensor, size: int) -> torch.Tensor:
    """Every two neighbouring blocks of x [B, (n + 1) W, ...] side by side: [B n, 2 W, ...]."""
    blocks = torch.unflatten(x, 1, (-1, size))
    return torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=2).flatten(0, 1)


@primitive
def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    sinks: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Softmax attention of q [B, L, H, P] on k and v [B, S, G, P]; mask [L, S] or [B, 1, L, S] says what is seen."""
    batch, tokens, heads, channels = q.shape
    groups = k.shape[2]
    if sinks is not None:
        return attend_with_sinks(q, k, v, mask, causal, sinks, scale)
    if tokens == 1 and mask is None:
        # One query sees every key: the heads of a group are so many queries on its keys.
        q = q.view(batch, groups, heads // groups, channels)
        y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2), scale=scale)
        return y.reshape(batch, 1, heads, channels)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=True,
    )
    return y.transpose(1, 2)


@primitive
def attend_with_sinks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    sinks: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """`attend` with one more logit per head in the softmax's denominator (gpt-oss 2025)."""
    tokens, groups, repeats = q.shape[1], k.shape[2], q.shape[2] // k.shape[2]
    rows = torch.unflatten(q, 2, (groups, repeats)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # [B, G, H / G L, P]
    logits = scale * widen(torch.matmul(rows, k.permute(0, 2, 3, 1)))  # [B, G, H / G L, S]
    if causal:
        mask = in_reach(tokens, k.shape[1], q.device, True, None)
    if mask is not None:
        logits = logits.masked_fill_(~mask.repeat(*[1] * (mask.dim() - 2), repeats, 1), -torch.inf)
    extra = widen(sinks).view(groups, repeats, 1).expand(-1, -1, tokens).reshape(groups, -1, 1)
    top = torch.maximum(logits.detach().amax(-1, keepdim=True), extra.detach())  # so that no exp overflows
    shares = logits.sub_(top).exp_()
    total = shares.sum(-1, keepdim=True) + (extra - top).exp()  # [B, G, H / G L, 1]
    y = (torch.matmul(shares.to(v.dtype), v.transpose(1, 2)) / total).to(v.dtype)  # [B, G, H / G L, P]
    return torch.unflatten(y, 2, (repeats, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3)


@primitive(results=("k", "v"))
def with_cache(
    k: torch.Tensor, v: torch.Tensor, state: LayerState, window: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Store the new keys and values [B, L, G, P]; return those that some new token may see [B, S, G, P].

    They come in order of position, except for a single token, which sees them all.
    """
    capacity, total = state.k.shape[1], state.length + k.shape[1]
    if total > capacity and (window is None or window > capacity):
        raise ValueError(f"the state holds {capacity} tokens: got {state.length} and {k.shape[1]} more")
    if window is None:
        return append(state.k, k, state.length), append(state.v, v, state.length)
    return slide(state.k, k, state.length), slide(state.v, v, state.length)


@primitive
def append(cache: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
    """Write new [B, L, G, P] behind the first `length` tokens of the cache [B, capacity, G, P]; return all so far."""
    total = length + new.shape[1]
    cache[:, length:total] = new.detach()
    return new if length == 0 else cache[:, :total].to(new.dtype)


@primitive
def slide(cache: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
    """Write new [B, L, G, P] into a ring [B, capacity, G, P], token t at t % capacity; return old and new tokens."""
    capacity, tokens = cache.shape[1], new.shape[1]
    at = length % capacity
    if tokens == 1:
        cache[:, at : at + 1] = new.detach()
        return cache[:, : length + 1].to(new.dtype)
    first = at if length > capacity else 0  # where the oldest token lies
    old = torch.cat([cache[:, first:length], cache[:, :first]], dim=1)
    both = torch.cat([old.to(new.dtype), new], dim=1)
    kept = min(capacity, length + tokens)
    slots = torch.arange(length + tokens - kept, length + tokens, device=cache.device) % capacity
    cache[:, slots] = both[:, -kept:].detach().to(cache.dtype)
    return both
