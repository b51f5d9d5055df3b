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
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """y [B, L, H, P] for q [B, L, H, P] and k, v [B, L, G, P]; head h uses KV head h // (H / G).

    `state.k` and `state.v` [B, capacity, G, P] hold the tokens before.

    Raises ValueError for a state with segments or without `causal`, and for more tokens than the state holds.
    """
    start = start_of(causal, segments, state)
    if state is not None:
        k, v = append(state.k, k, start), append(state.v, v, start)
    return attend(q, k, v, visible(q, k, start, causal, segments), causal and start == 0)


@primitive
def sink_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor,
    *,
    causal: bool = True,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """`attention` with one more logit per head, sinks [H], that no value belongs to (gpt-oss 2025)."""
    start = start_of(causal, segments, state)
    if state is not None:
        k, v = append(state.k, k, start), append(state.v, v, start)
    return attend_with_sinks(q, k, v, visible(q, k, start, causal, segments), causal and start == 0, sinks)


@primitive
def sliding_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
    *,
    sinks: torch.Tensor | None = None,
    causal: bool = True,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """`attention`, or with sinks [H] `sink_attention`, in which position t sees no further back than t-n+1.

    n is the `window`. The state holds the last `capacity` tokens, token t at t % capacity.
    """
    start, tokens = start_of(causal, segments, state), q.shape[1]
    if state is not None:
        k, v = slide(state.k, k, start, window), slide(state.v, v, start, window)
        if tokens == 1:
            return attend_perhaps_with_sinks(q, k, v, None, False, sinks)
    if not torch.compiler.is_compiling():
        if causal and tokens > 2 * window:
            return attend_in_blocks(q, k, v, window, sinks, segments)
        if start + tokens <= window:
            seen = visible(q, k, start, causal, segments)
            return attend_perhaps_with_sinks(q, k, v, seen, causal and start == 0, sinks)
    away = behind(tokens, k.shape[1], q.device)
    seen = (away >= 0) & (away < window) if causal else away < window
    seen = seen if segments is None else seen & same_document(segments)
    return attend_perhaps_with_sinks(q, k, v, seen, False, sinks)


@primitive
def start_of(causal: bool, segments: torch.Tensor | None, state: LayerState | None) -> int:
    """How many tokens come before these; raises ValueError where a state cannot continue."""
    if state is None:
        return 0
    if segments is not None or not causal:
        raise ValueError("attention with a state is causal and takes no segments")
    return state.length


@primitive
def visible(
    q: torch.Tensor, k: torch.Tensor, start: int, causal: bool, segments: torch.Tensor | None
) -> torch.Tensor | None:
    """Which keys each query sees, [L, S] or [B, 1, L, S]; None for all of them, or all up to its own."""
    if segments is None and (start == 0 or q.shape[1] == 1):
        return None
    before = behind(q.shape[1], k.shape[1], q.device) >= 0
    if segments is None:
        return before
    return same_document(segments) & before if causal else same_document(segments)


@primitive
def behind(tokens: int, keys: int, device: torch.device) -> torch.Tensor:
    """How far each of S keys, the last L of them those of the queries, lies behind each of L queries: [L, S]."""
    return torch.arange(keys - tokens, keys, device=device)[:, None] - torch.arange(keys, device=device)


@primitive
def same_document(segments: torch.Tensor) -> torch.Tensor:
    """Which positions lie in the document of each position: [B, L] -> [B, 1, L, L]."""
    runs = segment_runs(segments)
    return (runs[:, :, None] == runs[:, None, :]).unsqueeze(1)


@primitive
def attend_in_blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
    sinks: torch.Tensor | None,
    segments: torch.Tensor | None,
) -> torch.Tensor:
    """Sliding-window attention in n blocks of W = `window` queries, each on the keys of its block and the one before.

    q [B, L, H, P]; k and v [B, S, G, P], the last L of them those of the queries. No [L, S] mask is made.
    """
    batch, tokens = q.shape[:2]
    n, old = (tokens + window - 1) // window, k.shape[1] - tokens
    tail = n * window - tokens
    positions = torch.arange(-window, n * window, device=q.device)  # of the keys; 0 is that of the first query
    away = behind(window, 2 * window, q.device)
    seen = (away >= 0) & (away < window) & (positions >= -old).unfold(0, 2 * window, window)[:, None]  # [n, W, 2 W]
    seen = seen.repeat(batch, 1, 1)  # [B n, W, 2 W]
    if segments is not None:
        runs = F.pad(segment_runs(segments), (window, tail))
        seen = seen & (runs[:, window:].reshape(-1, window, 1) == in_pairs(runs, window)[:, None])
    q = F.pad(q, (0, 0, 0, 0, 0, tail)).reshape(batch * n, window, *q.shape[2:])
    k, v = (in_pairs(F.pad(x, (0, 0, 0, 0, window - old, tail)), window) for x in (k, v))
    y = attend_perhaps_with_sinks(q, k, v, seen.unsqueeze(1), False, sinks)  # [B n, W, H, P]
    return y.reshape(batch, n * window, *y.shape[2:])[:, :tokens]


@primitive
def in_pairs(x: torch.Tensor, size: int) -> torch.Tensor:
    """Every two neighbouring blocks of x [B, (n + 1) W, ...] side by side: [B n, 2 W, ...]."""
    blocks = torch.unflatten(x, 1, (-1, size))
    return torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=2).flatten(0, 1)


@primitive
def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
    """Softmax attention of q [B, L, H, P] on k and v [B, S, G, P].

    `mask` [L, S] or [B, 1, L, S] says what is seen; without one `causal` does.
    """
    batch, tokens, heads, channels = q.shape
    groups = k.shape[2]
    if tokens == 1 and mask is None:
        # One query sees every key: the heads of a group are so many queries on its keys.
        q = q.view(batch, groups, heads // groups, channels)
        y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2))
        return y.reshape(batch, 1, heads, channels)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, L, P], [B, G, S, P]
    causal = causal and mask is None
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
    return y.transpose(1, 2)


@primitive
def attend_with_sinks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    sinks: torch.Tensor,
) -> torch.Tensor:
    """`attend` with one more logit per head in the softmax's denominator."""
    tokens, groups, repeats = q.shape[1], k.shape[2], q.shape[2] // k.shape[2]
    rows = torch.unflatten(q, 2, (groups, repeats)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # [B, G, H / G L, P]
    logits = q.shape[-1] ** -0.5 * widen(torch.matmul(rows, k.permute(0, 2, 3, 1)))  # [B, G, H / G L, S]
    if causal and mask is None:
        mask = behind(tokens, k.shape[1], q.device) >= 0
    if mask is not None:
        logits = logits.masked_fill_(~mask.repeat(*[1] * (mask.dim() - 2), repeats, 1), -torch.inf)
    extra = widen(sinks).view(groups, repeats, 1).expand(-1, -1, tokens).reshape(groups, -1, 1)
    top = torch.maximum(logits.detach().amax(-1, keepdim=True), extra.detach())  # so that no exp overflows
    shares = logits.sub_(top).exp_()
    total = shares.sum(-1, keepdim=True) + (extra - top).exp()  # [B, G, H / G L, 1]
    y = (torch.matmul(shares.to(v.dtype), v.transpose(1, 2)) / total).to(v.dtype)  # [B, G, H / G L, P]
    return torch.unflatten(y, 2, (repeats, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3)


@primitive
def attend_perhaps_with_sinks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """`attend` or `attend_with_sinks`."""
    return attend(q, k, v, mask, causal) if sinks is None else attend_with_sinks(q, k, v, mask, causal, sinks)


@primitive
def append(cache: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
    """Write new [B, L, G, P] behind the first `length` tokens of the cache [B, capacity, G, P]; return all so far."""
    total = length + new.shape[1]
    if total > cache.shape[1]:
        raise ValueError(f"the state holds {cache.shape[1]} tokens: got {length} and {new.shape[1]} more")
    cache[:, length:total] = new.detach()
    return new if length == 0 else cache[:, :total].to(new.dtype)


@primitive
def slide(cache: torch.Tensor, new: torch.Tensor, length: int, window: int) -> torch.Tensor:
    """Write new [B, L, G, P] into a ring [B, capacity, G, P], token t at t % capacity; return old and new tokens.

    They come in order of position, except for a single token, which sees them all.
    """
    capacity, tokens = cache.shape[1], new.shape[1]
    if length + tokens > capacity < window:
        raise ValueError(f"the state holds {capacity} tokens: got {length} and {tokens} more")
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
