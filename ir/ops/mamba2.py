"""The Mamba-2 mixer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self

from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from archc.ir.dims import Axis, Concat, Dim, Product, concat
from archc.ir.expr import Num, ceil, minimum
from archc.ir.fields import Deviation, Eps, Size, divisors
from archc.ir.op import ONES, TOKENS_SYM, ZEROS, Contraction, DimMaker, Init, Maths, Op, Param, State, Value, op, stream
from archc.ir.ops.norms import norms_as_zeroed

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.selection import Selections

Bounds = tuple[Annotated[float, Ge(0)], Annotated[float, Gt(0), Le(math.inf)]]  # no upper bound at infinity


@op("mamba2")
class Mamba2(Op):
    """Mamba-2 mixer: in_proj -> causal conv -> SSD scan -> gated norm -> out_proj (Dao & Gu 2024, section 7).

    Heads come in `n_groups` groups that share B and C; the gated norm works over `norm_groups` equal parts.
    """

    letter = "M"
    optional = frozenset({"in_proj_bias", "conv_bias", "out_proj_bias"})
    scored = MappingProxyType({"n_groups": "x", "heads_per_group": "x", "head_dim": "x", "d_state": "B"})

    d_model: Dim
    n_groups: Dim
    heads_per_group: Dim
    head_dim: Dim
    d_state: Dim
    conv_kernel: Dim
    chunk: int = 128
    norm_groups: int = 1
    eps: float = 1e-5
    bias: bool = False
    has_conv_bias: bool = True
    dt_limit: tuple[float, float] = (0.0, math.inf)
    init_std: float = 0.02

    @dataclass(frozen=True, kw_only=True)
    class Fields:
        """What a spec says of a mamba2 block."""

        n_heads: Annotated[Size, Doc("heads, a multiple of `n_groups`")]
        head_dim: Annotated[Size, Doc("channels of a head")]
        d_state: Annotated[Size, Doc("state of a channel")]
        n_groups: Annotated[Size, Doc("groups of heads that share B and C")] = 1
        conv_kernel: Annotated[int, Ge(2), Doc("taps of the causal convolution")] = 4
        chunk: Annotated[Size, Doc("tokens that the scan takes at a time; changes no result")] = 128
        norm_groups: Annotated[Size | None, Doc("equal parts that the gated norm works over; else `n_groups`")] = None
        eps: Annotated[Eps, Doc("added to the variance in the gated norm")] = 1e-5
        bias: Annotated[bool, Doc("whether the projections have biases")] = False
        conv_bias: Annotated[bool, Doc("whether the convolution has a bias")] = True
        dt_limit: Annotated[Bounds, Doc("bounds of the time step, lower and upper")] = (0.0, math.inf)
        init_std: Annotated[Deviation, Doc("standard deviation that matrices start with; else `init.std`")] = 0.02

    Examples = (
        {"n_heads": 6, "head_dim": 5, "d_state": 7, "n_groups": 2, "conv_kernel": 4, "chunk": 8},
        {"n_heads": 12, "head_dim": 11, "d_state": 9, "n_groups": 3, "conv_kernel": 2, "chunk": 6, "norm_groups": 1,
         "bias": True, "conv_bias": False, "dt_limit": (0.02, 0.9)},
    )  # fmt: skip

    @classmethod
    def check(cls, fields: Any) -> Iterator[tuple[str, str, str]]:
        heads, groups = fields.n_heads, fields.n_groups
        if heads % groups:
            message = f"`n_heads` must be divisible by `n_groups`: got n_heads={heads}, n_groups={groups}"
            yield "n_groups", message, f"n_groups {divisors(heads, groups)}"
            return
        parts = fields.norm_groups
        if parts is not None and heads * fields.head_dim % parts:
            inner = heads * fields.head_dim
            yield "norm_groups", f"`norm_groups` must divide n_heads * head_dim = {inner}: got {parts}", ""
        low, high = fields.dt_limit
        if not 0 <= low < high:
            yield "dt_limit", f"`dt_limit` must be [low, high] with 0 <= low < high: got [{low:g}, {high:g}]", ""

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        # Units move freely only while whole parts of the gated norm move with them.
        n_groups, heads, parts = fields.n_groups, fields.n_heads, fields.norm_groups or fields.n_groups
        groups = d("n_groups", n_groups, order=_free_if(parts == 1 or parts % n_groups == 0))
        per_group = d("heads_per_group", heads // n_groups, within=groups, order=_free_if(n_groups % parts == 0))
        return cls(
            d_model=d("d_model"),
            n_groups=groups,
            heads_per_group=per_group,
            head_dim=d("head_dim", fields.head_dim, order=_free_if(heads % parts == 0)),
            d_state=d("d_state", fields.d_state, within=groups),
            conv_kernel=d("conv_kernel", fields.conv_kernel, order="fixed"),
            chunk=fields.chunk,
            norm_groups=parts,
            eps=fields.eps,
            bias=fields.bias,
            has_conv_bias=fields.conv_bias,
            dt_limit=fields.dt_limit,
            init_std=fields.init_std,
        )

    def fields(self) -> Any:
        return self.Fields(
            n_heads=self.heads.size,
            head_dim=self.head_dim.size,
            d_state=self.d_state.size,
            n_groups=self.n_groups.size,
            conv_kernel=self.conv_kernel.size,
            chunk=self.chunk,
            norm_groups=None if self.norm_groups == self.n_groups.size else self.norm_groups,
            eps=self.eps,
            bias=self.bias,
            conv_bias=self.has_conv_bias,
            dt_limit=self.dt_limit,
            init_std=self.init_std,
        )

    @property
    def exact(self) -> frozenset[str]:
        return frozenset({"d_state", "n_groups"} if self.norms_by_group else {"d_state"})

    @property
    def norms_by_group(self) -> bool:
        """Whether no part of the gated norm spans several groups."""
        return self.norm_groups % self.n_groups.size == 0

    def with_dims(self, change: Callable[[Dim], Dim]) -> Self:
        """The norm keeps as many parts a group as it had, where no part spans several."""
        made = super().with_dims(change)
        if not self.norms_by_group:
            return made
        return dataclasses.replace(made, norm_groups=self.norm_groups // self.n_groups.size * made.n_groups.size)

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """With zeros each part of the gated norm has its old width."""
        made, factors = super().selected(chosen)
        ratio = (self.d_inner.size / self.norm_groups) / (made.d_inner.size / made.norm_groups)
        return norms_as_zeroed(made, ratio, "norm") if as_zeroed else (made, factors)

    @property
    def heads(self) -> Product:
        """n_heads = n_groups * heads_per_group."""
        return self.n_groups * self.heads_per_group

    @property
    def d_inner(self) -> Product:
        """Inner width: every channel of every head."""
        return self.n_groups * self.heads_per_group * self.head_dim

    @property
    def d_bc(self) -> Product:
        """Width of B, and of C: one state vector per group."""
        return self.n_groups * self.d_state

    @property
    def conv_channels(self) -> Concat:
        """Channels that pass the convolution: x | B | C."""
        return concat(x=self.d_inner, B=self.d_bc, C=self.d_bc)

    def derived(self) -> Mapping[str, Axis]:
        return {"n_heads": self.heads, "d_inner": self.d_inner, "d_bc": self.d_bc, "d_conv": self.conv_channels}

    def params(self) -> Iterator[Param]:
        rows = concat(z=self.d_inner, x=self.d_inner, B=self.d_bc, C=self.d_bc, dt=self.heads)
        normal = Init("normal", (self.init_std,))
        taps = Init("uniform", (1 / math.sqrt(self.conv_kernel.size),))
        yield Param("in_proj", (rows, self.d_model), normal, contracts=self.d_model)
        if self.bias:
            yield Param("in_proj_bias", (rows,), ZEROS)
        yield Param("conv_weight", (self.conv_channels, self.conv_kernel), taps, contracts=self.conv_kernel)
        if self.has_conv_bias:
            yield Param("conv_bias", (self.conv_channels,), ZEROS)
        yield Param("A_log", (self.heads,), Init("log_uniform_decay", (1.0, 16.0)))
        yield Param("D", (self.heads,), ONES)
        yield Param("dt_bias", (self.heads,), Init("inverse_softplus", (0.001, 0.1)))
        yield Param("norm", (self.d_inner,), ONES)
        yield Param("out_proj", (self.d_model, self.d_inner), normal, contracts=self.d_inner)
        if self.bias:
            yield Param("out_proj_bias", (self.d_model,), ZEROS)

    def state(self) -> Iterator[State]:
        yield State("conv", (self.conv_channels, self.expr(self.conv_kernel) - 1), "conv")
        yield State("ssm", (self.heads, self.head_dim, self.d_state), "ssm")

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def contractions(self) -> Iterator[Contraction]:
        # Chunked SSD: C B^T per group and (scores x) per head within a chunk, chunk states in and out per head.
        # A single token takes the recurrence, which has no part within the chunk.
        chunk = minimum(Num(self.chunk), TOKENS_SYM)
        chunks, several = ceil(TOKENS_SYM / chunk), minimum(Num(1), TOKENS_SYM - 1)
        per_chunk = 2 * chunk * chunk
        heads, state = self.expr(self.heads), self.expr(self.d_state)
        within = per_chunk * (self.expr(self.d_bc) + self.expr(self.d_inner)) * several
        across = 4 * chunk * heads * self.expr(self.head_dim) * state
        yield Contraction("ssd_chunk", chunks * within, (self.d_state,))
        yield Contraction("ssd_state", chunks * across, (self.d_state,))

    def values(self) -> Iterator[Value]:
        yield Value("in_proj", 2 * self.expr(self.d_inner) + 2 * self.expr(self.d_bc) + self.expr(self.heads))
        yield Value("conv", self.expr(self.conv_channels))
        yield Value("scan", self.expr(self.d_inner))
        yield Value("gated", self.expr(self.d_inner))

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import (
            causal_conv1d,
            clamp,
            decay_rates,
            gated_rms_norm,
            linear,
            silu,
            split,
            ssd_scan,
            step_sizes,
        )

        (u,) = inputs
        batch, tokens, _ = u.shape  # [B, L, D]
        z, x_bc, dt = split(linear(u, m.in_proj, m.in_proj_bias), (m.d_inner, m.d_conv, m.n_heads))
        m.probe("x", lambda: x_bc[..., : m.d_inner].reshape(batch, tokens, m.n_heads, -1), self.heads, self.head_dim)
        x_bc = silu(causal_conv1d(x_bc, m.conv_weight, m.conv_bias, m.segments, m.state))
        x, B, C = split(x_bc, (m.d_inner, m.d_bc, m.d_bc))
        x = x.view(batch, tokens, m.n_heads, m.head_dim)  # [B, L, H, P]
        B = m.tap("B", B.view(batch, tokens, m.n_groups, m.d_state), self.n_groups, self.d_state)  # [B, L, G, N]
        C = C.view(batch, tokens, m.n_groups, m.d_state)
        dt = step_sizes(dt, m.dt_bias)  # [B, L, H]
        if self.dt_limit != (0.0, math.inf):
            dt = clamp(dt, *m.dt_limit)
        y = ssd_scan(x, dt, decay_rates(m.A_log), B, C, m.D, m.chunk, m.segments, m.state)
        y = m.tap("heads", y, self.heads, self.head_dim)
        y = gated_rms_norm(y.reshape(batch, tokens, m.d_inner), z, m.norm, m.eps, m.norm_groups)
        return linear(y, m.out_proj, m.out_proj_bias)


def _free_if(free: bool) -> str:
    return "free" if free else "fixed"
