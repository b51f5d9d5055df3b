"""The state-space scan of Mamba-2 (Dao & Gu 2024), chunked for sequences and stepwise for a single token.

Per head, S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T of shape [P, N], and y_t = S_t C_t + D x_t of shape [P].
"""

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
def step_sizes(dt: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """softplus(dt + bias), in fp32 or wider: dt [B, L, H], bias [H]."""
    return F.softplus(widen(dt) + widen(bias))


@primitive
def decay_rates(A_log: torch.Tensor) -> torch.Tensor:
    """A = -exp(A_log) [H], in fp32 or wider."""
    return -torch.exp(widen(A_log))


@primitive
def ssd_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    chunk: int,
    segments: torch.Tensor | None = None,
    state: LayerState | None = None,
) -> torch.Tensor:
    """y [B, L, H, P] for x [B, L, H, P], dt [B, L, H], A [H] (negative), B and C [B, L, G, N], D [H].

    Head h uses group h // (H / G). `state.ssm` [B, H, P, N] is where the scan starts and ends.
    """
    wide = widen(x).dtype
    x, dt, A, B, C, D, dtype = x.to(wide), dt.to(wide), A.to(wide), B.to(wide), C.to(wide), D.to(wide), x.dtype
    start = None if state is None else state.ssm.to(wide)
    if x.shape[1] == 1:
        y, end = ssd_step(x, dt, A, B, C, start)
    else:
        y, end = ssd_chunked(x, dt, A, B, C, chunk, segments, start)
    if state is not None:
        state.ssm.copy_(end.detach())
    return (y + x * D[:, None]).to(dtype)


@primitive(results=("y", "end"))
def ssd_step(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    start: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token: y [B, 1, H, P] without the skip, and the state after it [B, H, P, N]."""
    batch, _, heads, channels = x.shape
    groups, states = B.shape[2:]
    rows = (heads // groups) * channels  # what one group's B and C meet
    inputs = (x * dt[..., None]).view(batch * groups, rows, 1)
    B = B.reshape(batch * groups, 1, states)
    if start is None:
        end = torch.bmm(inputs, B)
    else:
        decay = torch.exp(dt * A).view(batch, heads, 1, 1)
        end = torch.baddbmm((start * decay).view(batch * groups, rows, states), inputs, B)
    y = torch.bmm(end, C.reshape(batch * groups, states, 1))
    return y.view(x.shape), end.view(batch, heads, channels, states)


@primitive(results=("y", "end"))
def ssd_chunked(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    chunk: int,
    segments: torch.Tensor | None,
    start: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sequence: y [B, L, H, P] without the skip, and the state after it [B, H, P, N].

    Within a chunk of Q tokens outputs come from a masked, decayed C B^T; between the n chunks only states are
    carried (Dao & Gu 2024, section 6). A padded tail neither decays nor feeds the state. R = H / G heads share a
    group's B and C.
    """
    tokens = x.shape[1]
    if torch.compiler.is_compiling():  # for every length; an empty chunk more, so that n is never a special 1
        n = (tokens + chunk - 1) // chunk + 1
    else:
        chunk = min(chunk, tokens)
        n = (tokens + chunk - 1) // chunk
    runs = None if segments is None else chunk_runs(segments, n, chunk)  # [B, n, Q]
    # Log of the decay since the chunk began [B, H, n, Q]; in fp64, since only its differences matter.
    decay = in_chunks(dt * A, n, chunk).permute(0, 3, 1, 2).cumsum(-1, dtype=torch.float64)
    x = in_chunks(x * dt[..., None], n, chunk)  # [B, n, Q, H, P]
    B = in_chunks(B, n, chunk).permute(0, 3, 1, 2, 4).contiguous()  # [B, G, n, Q, N]
    C = in_chunks(C, n, chunk).permute(0, 3, 1, 2, 4).contiguous()
    y = ssd_within(x, decay, B, C, runs)
    before, end = ssd_carry(ssd_fed(x, decay, B, runs), decay[..., -1], start, runs)
    y = y + ssd_read(before, decay, C, runs)  # [B, n, Q, G, R, P]
    return from_chunks(y, tokens).flatten(2, 3), end


@primitive
def in_chunks(x: torch.Tensor, n: int, chunk: int) -> torch.Tensor:
    """x [B, L, ...] with zeros up to n * Q tokens, as [B, n, Q, ...]."""
    if torch.compiler.is_compiling():  # by index: padding or cutting by symbolic amounts asks what they are
        steps = chunk_steps(n, chunk, x.device)  # [n, Q]
        inside = (steps < x.shape[1])[(..., *[None] * (x.dim() - 2))]
        return torch.where(inside, x[:, steps.clamp(max=x.shape[1] - 1)], 0)
    if n * chunk > x.shape[1]:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, n * chunk - x.shape[1]))
    return torch.unflatten(x, 1, (n, chunk))


@primitive
def from_chunks(y: torch.Tensor, tokens: int) -> torch.Tensor:
    """The first L tokens of y [B, n, Q, ...], as [B, L, ...]."""
    if torch.compiler.is_compiling():
        steps = torch.arange(tokens, device=y.device)
        return y[:, steps // y.shape[2], steps % y.shape[2]]
    return y.flatten(1, 2)[:, :tokens]


@primitive
def chunk_steps(n: int, chunk: int, device: torch.device) -> torch.Tensor:
    """Position of each token of each chunk: [n, Q]."""
    return chunk * torch.arange(n, device=device)[:, None] + torch.arange(chunk, device=device)


@primitive
def chunk_runs(segments: torch.Tensor, n: int, chunk: int) -> torch.Tensor:
    """Number of the document of each position, [B, n, Q]; the padded tail belongs to the last one."""
    steps = chunk_steps(n, chunk, segments.device)
    return segment_runs(segments)[:, steps.clamp(max=segments.shape[1] - 1)]


@primitive
def runs_before(runs: torch.Tensor) -> torch.Tensor:
    """Document that the state before each chunk belongs to: [B, n, Q] -> [B, n, 1]; the first one at the start."""
    last = runs[..., -1:]
    return torch.where(torch.arange(last.shape[1], device=runs.device)[:, None] > 0, last.roll(1, 1), 0)


@primitive
def ssd_within(
    x: torch.Tensor, decay: torch.Tensor, B: torch.Tensor, C: torch.Tensor, runs: torch.Tensor | None
) -> torch.Tensor:
    """What tokens read from the tokens of their chunk up to themselves: [B, n, Q, G, R, P]."""
    pairs = torch.matmul(C, B.mT)  # [B, G, n, Q, Q]
    if runs is not None:
        pairs = pairs * (runs[:, None, :, :, None] == runs[:, None, :, None, :])
    decay, x = torch.unflatten(decay, 1, (B.shape[1], -1)), torch.unflatten(x, 3, (B.shape[1], -1))
    scores = ssd_between(decay, x.dtype) * pairs.unsqueeze(2)  # [B, G, R, n, Q, Q]
    y = torch.matmul(scores, x.permute(0, 3, 4, 1, 2, 5).contiguous())  # [B, G, R, n, Q, P]
    return y.permute(0, 3, 4, 1, 2, 5)


@primitive
def ssd_between(decay: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """How much of token j is left at token i, for log decays [..., Q]: [..., i, j], zero for j > i.

    Differences of the parts that `dtype` holds and of the parts it rounds away: the large sums cancel exactly.
    """
    high = decay.to(dtype)
    low = (decay - high).detach().to(dtype)
    future = torch.full((decay.shape[-1],) * 2, -torch.inf, dtype=dtype, device=decay.device).triu(1)
    left = (high[..., None] - high[..., None, :]).add_(low[..., None]).sub_(low[..., None, :])
    return left.add_(future).exp_()


@primitive
def ssd_fed(x: torch.Tensor, decay: torch.Tensor, B: torch.Tensor, runs: torch.Tensor | None) -> torch.Tensor:
    """What each chunk has added to the state by its end: [B, G, n, R, P, N]."""
    left = (decay[..., -1:] - decay).exp().to(x.dtype)  # [B, H, n, Q]
    if runs is not None:
        left = left * (runs == runs[..., -1:])[:, None]
    x = torch.unflatten(x * left.permute(0, 2, 3, 1)[..., None], 3, (B.shape[1], -1))  # [B, n, Q, G, R, P]
    rows = x.flatten(4).permute(0, 3, 1, 2, 4).contiguous()  # [B, G, n, Q, R P]
    return torch.unflatten(torch.matmul(rows.mT, B), 3, x.shape[4:])


@primitive
def ssd_read(before: torch.Tensor, decay: torch.Tensor, C: torch.Tensor, runs: torch.Tensor | None) -> torch.Tensor:
    """What tokens read from the state before their chunk [B, G, n, R, P, N]: [B, n, Q, G, R, P]."""
    left = decay.exp().to(C.dtype)  # [B, H, n, Q]
    if runs is not None:
        left = left * (runs == runs_before(runs))[:, None]
    left = torch.unflatten(left, 1, (C.shape[1], -1)).permute(0, 3, 4, 1, 2)  # [B, n, Q, G, R]
    y = torch.matmul(C, before.flatten(3, 4).mT)  # [B, G, n, Q, R P]
    return torch.unflatten(y.permute(0, 2, 3, 1, 4), 4, before.shape[3:5]) * left[..., None]


@primitive(results=("before", "end"))
def ssd_carry(
    fed: torch.Tensor, decay: torch.Tensor, start: torch.Tensor | None, runs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """States before each chunk [B, G, n, R, P, N] and after the last [B, H, P, N].

    A chunk adds fed [B, G, n, R, P, N] and leaves exp(decay) [B, H, n] of what was there before.
    """
    groups, repeats = fed.shape[1], fed.shape[3]
    start = torch.zeros_like(fed[:, :, 0]) if start is None else torch.unflatten(start, 1, (groups, repeats))
    if torch.compiler.is_compiling():
        return ssd_carry_at_once(fed, decay, start, runs)
    left = decay.exp().to(fed.dtype)
    if runs is not None:
        left = left * (runs[..., -1] == runs_before(runs)[..., 0])[:, None]
    left = torch.unflatten(left, 1, (groups, repeats))[..., None, None]  # [B, G, R, n, 1, 1]
    states = [start]
    for c in range(fed.shape[2]):
        states.append(torch.addcmul(fed[:, :, c], states[-1], left[:, :, :, c]))
    return torch.stack(states[:-1], dim=2), states[-1].flatten(1, 2)


@primitive(results=("before", "end"))
def ssd_carry_at_once(
    fed: torch.Tensor, decay: torch.Tensor, start: torch.Tensor, runs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ssd_carry` as one product over pairs of chunks, without a loop: for compiled graphs of any length."""
    states = torch.cat([start.unsqueeze(2), fed], dim=2).transpose(2, 3)  # [B, G, R, n + 1, P, N]
    between = ssd_between(F.pad(decay, (1, 0)).cumsum(-1), fed.dtype)  # [B, H, n + 1, n + 1]
    if runs is not None:
        last = F.pad(runs[..., -1], (1, 0))  # [B, n + 1]
        between = between * (last[:, :, None] == last[:, None, :])[:, None]
    between = torch.unflatten(between, 1, states.shape[1:3])
    reached = torch.unflatten(torch.matmul(between, states.flatten(4)), 4, states.shape[4:])
    return reached[:, :, :, :-1].transpose(2, 3), reached[:, :, :, -1].flatten(1, 2)
