"""The state-space scan of Mamba-2 (Dao & Gu 2024), chunked for sequences and stepwise for a single token.

    S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T        [P, N] per head
    y_t = S_t C_t + D x_t                             [P]
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
    carried (Dao & Gu 2024, section 6). The padded tail has dt = 0: it neither decays nor feeds the state.
    """
    batch, tokens, heads, channels = x.shape
    if not torch.compiler.is_compiling():  # a compiled graph holds for every length
        chunk = min(chunk, tokens)
    n = -(-tokens // chunk)
    runs = None if segments is None else chunk_runs(segments, n, chunk)  # [B, n, Q]
    dt, B, C = in_chunks(dt, n, chunk), in_chunks(B, n, chunk), in_chunks(C, n, chunk)  # [B, n, Q, ...]
    x = in_chunks(x, n, chunk) * dt[..., None]  # [B, n, Q, H, P]
    # [B, n, H, Q], log of the decay since the chunk began; in fp64, since only its differences matter.
    decay = (dt * A).transpose(2, 3).cumsum(-1, dtype=torch.float64)
    y = ssd_within(x, decay, B, C, runs)
    before, end = ssd_carry(ssd_fed(x, decay, B, runs), decay[..., -1], start, runs)
    y = y + ssd_read(before, decay, C, runs)  # [B, n, Q, H, P]
    return y.reshape(batch, n * chunk, heads, channels)[:, :tokens], end


@primitive
def in_chunks(x: torch.Tensor, n: int, chunk: int) -> torch.Tensor:
    """x [B, L, ...] with zeros up to n * Q tokens, as [B, n, Q, ...]."""
    padding = n * chunk - x.shape[1]
    if torch.compiler.is_compiling() or padding > 0:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, padding))
    return x.reshape(x.shape[0], n, chunk, *x.shape[2:])


@primitive
def chunk_runs(segments: torch.Tensor, n: int, chunk: int) -> torch.Tensor:
    """Number of the document of each position, [B, n, Q]; the padded tail belongs to the last one."""
    runs = segment_runs(segments)
    tail = runs[:, -1:].expand(-1, n * chunk - runs.shape[1])
    return torch.cat([runs, tail], dim=1).view(-1, n, chunk)


@primitive
def runs_before(runs: torch.Tensor) -> torch.Tensor:
    """Document that the state before each chunk belongs to: [B, n, Q] -> [B, n, 1]; the first one at the start."""
    return F.pad(runs[:, :-1, -1:], (0, 0, 1, 0))


@primitive
def ssd_within(
    x: torch.Tensor, decay: torch.Tensor, B: torch.Tensor, C: torch.Tensor, runs: torch.Tensor | None
) -> torch.Tensor:
    """What tokens read from the tokens of their chunk up to themselves: [B, n, Q, H, P]."""
    groups = B.shape[3]
    pairs = torch.matmul(C.transpose(2, 3), B.permute(0, 1, 3, 4, 2))  # [B, n, G, Q, Q]
    if runs is not None:
        pairs = pairs * (runs[:, :, None, :, None] == runs[:, :, None, None, :])
    between = ssd_between(decay, x.dtype)  # [B, n, H, Q, Q]
    scores = (torch.unflatten(between, 2, (groups, -1)) * pairs.unsqueeze(3)).flatten(2, 3)
    return torch.matmul(scores, x.transpose(2, 3)).transpose(2, 3)


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
    """What each chunk has added to the state by its end: [B, n, H, P, N]."""
    left = (decay[..., -1:] - decay).exp().to(x.dtype)  # [B, n, H, Q]
    if runs is not None:
        left = left * (runs == runs[..., -1:])[:, :, None]
    x = torch.unflatten(x * left.transpose(2, 3)[..., None], 3, (B.shape[3], -1)).flatten(4)  # [B, n, Q, G, H / G P]
    fed = torch.matmul(x.permute(0, 1, 3, 4, 2), B.transpose(2, 3))  # [B, n, G, H / G P, N]
    return fed.reshape(*decay.shape[:3], -1, B.shape[4])


@primitive
def ssd_read(before: torch.Tensor, decay: torch.Tensor, C: torch.Tensor, runs: torch.Tensor | None) -> torch.Tensor:
    """What tokens read from the state before their chunk: [B, n, Q, H, P]."""
    left = decay.exp().to(C.dtype)  # [B, n, H, Q]
    if runs is not None:
        left = left * (runs == runs_before(runs))[:, :, None]
    rows = torch.unflatten(before, 2, (C.shape[3], -1)).flatten(3, 4)  # [B, n, G, H / G P, N]
    y = torch.matmul(C.transpose(2, 3), rows.transpose(3, 4)).transpose(2, 3)  # [B, n, Q, G, H / G P]
    return y.reshape(*y.shape[:3], decay.shape[2], -1) * left.transpose(2, 3)[..., None]


@primitive(results=("before", "end"))
def ssd_carry(
    fed: torch.Tensor, decay: torch.Tensor, start: torch.Tensor | None, runs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """States before each chunk [B, n, H, P, N] and after the last [B, H, P, N].

    A chunk adds fed [B, n, H, P, N] and leaves exp(decay) [B, n, H] of what was there before.
    """
    if start is None:
        start = torch.zeros_like(fed[:, 0])
    if torch.compiler.is_compiling():
        return ssd_carry_at_once(fed, decay, start, runs)
    left = decay.exp().to(fed.dtype)
    if runs is not None:
        left = left * (runs[..., -1:] == runs_before(runs))
    states = [start]
    for c in range(fed.shape[1]):
        states.append(torch.addcmul(fed[:, c], states[-1], left[:, c, :, None, None]))
    return torch.stack(states[:-1], dim=1), states[-1]


@primitive(results=("before", "end"))
def ssd_carry_at_once(
    fed: torch.Tensor, decay: torch.Tensor, start: torch.Tensor, runs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ssd_carry` as one product over pairs of chunks, without a loop: for compiled graphs of any length."""
    fed = torch.cat([start[:, None], fed], dim=1)  # [B, n + 1, H, P, N]
    total = F.pad(decay, (0, 0, 1, 0)).transpose(1, 2).cumsum(-1)  # [B, H, n + 1]
    between = ssd_between(total, fed.dtype)  # [B, H, n + 1, n + 1]
    if runs is not None:
        last = F.pad(runs[..., -1], (1, 0))  # [B, n + 1]
        between = between * (last[:, :, None] == last[:, None, :])[:, None]
    states = torch.einsum("bhij,bjhpn->bihpn", between, fed)
    return states[:, :-1], states[:, -1]
