"""Softmax attention with grouped queries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from annotated_types import Gt, Le
from typing_extensions import Doc

from archc.ir.dims import Axis, Dim, Product
from archc.ir.expr import Expr, Num, maximum, minimum
from archc.ir.fields import Deviation, Eps, Positive, Size, divisors
from archc.ir.op import (
    CONTEXT_SYM,
    ONES,
    TOKENS_SYM,
    ZEROS,
    Constant,
    Contraction,
    DimMaker,
    Init,
    Maths,
    Op,
    Param,
    State,
    Value,
    op,
    stream,
)

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.selection import Selections


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained length (Llama 3.1's rule, or YaRN 2023)."""

    kind: Annotated[Literal["llama3", "yarn"], Doc("the rule")]
    factor: Annotated[Positive, Doc("how many times longer the context becomes")]
    original_context: Annotated[Size, Doc("tokens of the context it was trained at")]
    low_freq_factor: Annotated[Positive, Doc("llama3: waves longer than original_context / this are stretched")] = 1.0
    high_freq_factor: Annotated[Positive, Doc("llama3: waves shorter than original_context / this are kept")] = 4.0
    beta_fast: Annotated[Positive, Doc("yarn: pairs that turn more often within the context are kept")] = 32.0
    beta_slow: Annotated[Positive, Doc("yarn: pairs that turn less often within the context are stretched")] = 1.0
    truncate: Annotated[bool, Doc("yarn: whether those bounds are rounded to whole pairs")] = True
    attention_factor: Annotated[Positive | None, Doc("yarn: scale of queries and keys; else from `factor`")] = None


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding (Su et al. 2021) of the first `partial` of each head's channels.

    `frequencies`, one per rotated pair, replace the ones computed from `theta` and `scaling`.
    """

    theta: Annotated[Positive, Doc("base of the frequencies")] = 10000.0
    partial: Annotated[float, Gt(0), Le(1), Doc("part of each head's channels that is rotated")] = 1.0
    scaling: Annotated[RopeScaling | None, Doc("how frequencies are stretched beyond the trained length")] = None
    frequencies: Annotated[tuple[float, ...] | None, Doc("one a rotated pair, instead of computed ones")] = None


@op("attention")
class Attention(Op):
    """Attention with `n_kv_heads` key/value heads of `queries_per_kv` query heads each (Ainslie et al. 2023).

    `mask` is causal or bidirectional; with `window` n, position t sees t-n+1..t. `has_sinks` adds one learned logit
    per head to the softmax's denominator (gpt-oss). `qk_norm_eps` norms queries and keys per head (Qwen3).
    """

    letter = "*"
    exact = frozenset({"n_kv_heads", "queries_per_kv"})
    optional = frozenset({"q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm", "sinks"})

    d_model: Dim
    n_kv_heads: Dim
    queries_per_kv: Dim
    head_dim: Dim
    mask: Literal["causal", "bidirectional"] = "causal"
    window: int | None = None
    rope: Rope | None = None
    qk_norm_eps: float | None = None
    has_qkv_bias: bool = False
    has_o_bias: bool = False
    has_sinks: bool = False
    init_std: float = 0.02

    @dataclass(frozen=True, kw_only=True)
    class Fields:
        """What a spec says of an attention block."""

        n_heads: Annotated[Size, Doc("query heads, a multiple of `n_kv_heads`")]
        head_dim: Annotated[Size, Doc("channels of a head")]
        n_kv_heads: Annotated[Size | None, Doc("key and value heads; as many as `n_heads` when left out")] = None
        mask: Annotated[Literal["causal", "bidirectional"], Doc("which positions a token sees")] = "causal"
        window: Annotated[Size | None, Doc("tokens that a token sees, itself included; all when left out")] = None
        rope: Annotated[Rope | None, Doc("rotary position embedding, `{}` for the usual one")] = None
        qk_norm: Annotated[Eps | None, Doc("eps of an RMS norm of queries and keys, if they have one")] = None
        qkv_bias: Annotated[bool, Doc("whether query, key and value projections have biases")] = False
        o_bias: Annotated[bool, Doc("whether the output projection has a bias")] = False
        sinks: Annotated[bool, Doc("whether a learned logit a head joins the softmax's denominator")] = False
        init_std: Annotated[Deviation, Doc("standard deviation that matrices start with; else `init.std`")] = 0.02

    Examples = (
        {"n_heads": 6, "head_dim": 8, "n_kv_heads": 2},
        {"n_heads": 15, "head_dim": 10, "n_kv_heads": 3, "window": 4, "qkv_bias": True, "o_bias": True, "sinks": True,
         "rope": Rope(theta=500.0, scaling=RopeScaling(kind="yarn", factor=4.0, original_context=32))},
        {"n_heads": 6, "head_dim": 12, "n_kv_heads": 2, "qk_norm": 1e-6, "rope": Rope(partial=0.5)},
        {"n_heads": 6, "head_dim": 10, "n_kv_heads": 3, "mask": "bidirectional"},
        {"n_heads": 6, "head_dim": 4, "n_kv_heads": 2, "rope": Rope(frequencies=(0.7, 0.1))},
    )  # fmt: skip

    @classmethod
    def check(cls, fields: Any) -> Iterator[tuple[str, str, str]]:
        heads, kv = fields.n_heads, fields.n_kv_heads or fields.n_heads
        if heads % kv:
            message = f"`n_heads` must be divisible by `n_kv_heads`: got n_heads={heads}, n_kv_heads={kv}"
            yield "n_kv_heads", message, f"n_kv_heads {divisors(heads, kv)}"
        if fields.rope is None:
            return
        rotated = fields.rope.partial * fields.head_dim
        if int(rotated) % 2 or int(rotated) == 0:
            got = f"got {fields.head_dim} * {fields.rope.partial:g} = {rotated:g}"
            yield "rope", f"rotary embedding turns channels in pairs: head_dim * partial must be even, {got}", ""
        given = fields.rope.frequencies
        if given is not None and len(given) != int(rotated) // 2:
            got = f"got {len(given)}, expected {int(rotated) // 2}"
            yield "rope", f"`frequencies` must be one per rotated pair: {got}", ""
        yield from _check_rope(fields.rope)

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        kv = d("n_kv_heads", fields.n_kv_heads or fields.n_heads)
        return cls(
            d_model=d("d_model"),
            n_kv_heads=kv,
            queries_per_kv=d("queries_per_kv", fields.n_heads // kv.size, within=kv),
            head_dim=d("head_dim", fields.head_dim, order=_channel_order(fields.rope)),
            mask=fields.mask,
            window=fields.window,
            rope=fields.rope,
            qk_norm_eps=fields.qk_norm,
            has_qkv_bias=fields.qkv_bias,
            has_o_bias=fields.o_bias,
            has_sinks=fields.sinks,
            init_std=fields.init_std,
        )

    def fields(self) -> Any:
        return self.Fields(
            n_heads=self.heads.size,
            head_dim=self.head_dim.size,
            n_kv_heads=None if self.queries_per_kv.size == 1 else self.n_kv_heads.size,
            mask=self.mask,
            window=self.window,
            rope=self.rope,
            qk_norm=self.qk_norm_eps,
            qkv_bias=self.has_qkv_bias,
            o_bias=self.has_o_bias,
            sinks=self.has_sinks,
            init_std=self.init_std,
        )

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """Rotated pairs keep their frequencies; queries grow by what the scale of the softmax would shrink them."""
        made, _ = super().selected(chosen)
        if self.head_dim.name not in chosen or chosen[self.head_dim.name].is_identity:
            return made, {}
        if self.rope is not None:
            pairs = chosen.rows(self.head_dim)[0][: made.head_dim.size // 2]
            made = dataclasses.replace(made, rope=_kept_pairs(self.rope, self.head_dim.size, pairs.tolist()))
        ratio = self.head_dim.size / made.head_dim.size
        if self.qk_norm_eps is None:
            return made, dict.fromkeys(("q_proj", "q_bias"), math.sqrt(1 / ratio))
        if not as_zeroed:
            return made, {"q_norm": math.sqrt(1 / ratio)}
        # The norms of queries and keys give each sqrt(ratio) more, and the softmax takes one of the two back.
        return dataclasses.replace(made, qk_norm_eps=self.qk_norm_eps * ratio), {"k_norm": math.sqrt(ratio)}

    @property
    def heads(self) -> Product:
        """n_heads = n_kv_heads * queries_per_kv."""
        return self.n_kv_heads * self.queries_per_kv

    def derived(self) -> Mapping[str, Axis]:
        heads = self.heads
        return {"n_heads": heads, "d_q": heads * self.head_dim, "d_kv": self.n_kv_heads * self.head_dim}

    def params(self) -> Iterator[Param]:
        q, kv = self.heads * self.head_dim, self.n_kv_heads * self.head_dim
        normal = Init("normal", (self.init_std,))
        for name, axis in (("q", q), ("k", kv), ("v", kv)):
            yield Param(f"{name}_proj", (axis, self.d_model), normal, contracts=self.d_model)
            if self.has_qkv_bias:
                yield Param(f"{name}_bias", (axis,), ZEROS)
        if self.qk_norm_eps is not None:
            yield Param("q_norm", (self.head_dim,), ONES)
            yield Param("k_norm", (self.head_dim,), ONES)
        if self.has_sinks:
            yield Param("sinks", (self.heads,), ZEROS)
        yield Param("o_proj", (self.d_model, q), normal, contracts=q)
        if self.has_o_bias:
            yield Param("o_bias", (self.d_model,), ZEROS)

    def constants(self) -> Iterator[Constant]:
        if self.rope is None:
            return
        args: dict[str, Any] = {"head_dim": self.head_dim.size, "theta": self.rope.theta, "partial": self.rope.partial}
        if self.rope.scaling is not None:
            args["scaling"] = {k: v for k, v in asdict(self.rope.scaling).items() if v is not None}
        if self.rope.frequencies is not None:
            args["frequencies"] = self.rope.frequencies
        yield Constant(("inv_freq", "rotary_scale"), "rotary_frequencies", tuple(args.items()))

    @property
    def kv_tokens(self) -> Expr:
        """Tokens whose keys and values are kept: all, or the window's."""
        return CONTEXT_SYM if self.window is None else minimum(CONTEXT_SYM, Num(self.window))

    @property
    def streams(self) -> bool:
        return self.mask == "causal"

    def state(self) -> Iterator[State]:
        if not self.streams:
            return
        for name in ("k", "v"):
            shape = (self.n_kv_heads, self.head_dim)
            yield State(name, shape, "kv", stored_tokens=self.kv_tokens, rewindable=self.window is None)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    @property
    def pairs(self) -> Expr:
        """How many (query, key) pairs the new tokens of a sequence attend: exact for every mask."""
        past = CONTEXT_SYM - TOKENS_SYM
        if self.mask != "causal":
            return TOKENS_SYM * self.kv_tokens
        if self.window is None:
            return TOKENS_SYM * past + TOKENS_SYM * (TOKENS_SYM + 1) / 2
        # The first `growing` queries see fewer than `window` keys, one more each; the rest see `window`.
        growing = maximum(Num(0), minimum(TOKENS_SYM, Num(self.window) - past))
        return growing * past + growing * (growing + 1) / 2 + (TOKENS_SYM - growing) * self.window

    def contractions(self) -> Iterator[Contraction]:
        each = 2 * self.expr(self.heads) * self.expr(self.head_dim) * self.pairs
        yield Contraction("scores", each, (self.head_dim,))
        yield Contraction("weighted", each, ())

    def values(self) -> Iterator[Value]:
        q, kv = self.expr(self.heads * self.head_dim), self.expr(self.n_kv_heads * self.head_dim)
        yield Value("qkv", q + 2 * kv)
        yield Value("heads", q)

    @property
    def summary(self) -> str:
        sees = "the last `window` tokens" if self.window is not None else "all tokens before"
        reach = f"each token sees {sees}" if self.streams else "every token sees every other"
        return f"Grouped-query attention (Ainslie et al. 2023): {reach}."

    @property
    def class_name(self) -> str:
        return "SlidingAttention" if self.window is not None else "Attention"

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import attention, linear, rms_norm, rotary, sink_attention, sliding_attention

        (x,) = inputs
        batch, tokens, _ = x.shape  # [B, L, D]
        q = linear(x, m.q_proj, m.q_bias).view(batch, tokens, m.n_heads, m.head_dim)  # [B, L, H, P]
        k = linear(x, m.k_proj, m.k_bias).view(batch, tokens, m.n_kv_heads, m.head_dim)  # [B, L, G, P]
        v = linear(x, m.v_proj, m.v_bias).view(batch, tokens, m.n_kv_heads, m.head_dim)  # [B, L, G, P]
        if self.qk_norm_eps is not None:
            q = rms_norm(q, m.q_norm, m.qk_norm_eps)
            k = rms_norm(k, m.k_norm, m.qk_norm_eps)
        if self.rope is not None:
            q, k = rotary(q, k, m.inv_freq, m.rotary_scale, m.segments, m.state)
        seen: dict[str, Any] = {"causal": self.mask == "causal", "segments": m.segments, "state": m.state}
        if self.window is not None:
            y = sliding_attention(q, k, v, m.window, sinks=m.sinks, **seen)
        elif self.has_sinks:
            y = sink_attention(q, k, v, m.sinks, **seen)
        else:
            y = attention(q, k, v, **seen)
        y = m.tap("heads", y, self.heads, self.head_dim)
        return linear(y.reshape(batch, tokens, m.d_q), m.o_proj, m.o_bias)


def _check_rope(rope: Rope) -> Iterator[tuple[str, str, str]]:
    """Numbers that the rules of scaling divide by must not vanish: YaRN's log(theta), Llama 3.1's high - low."""
    if rope.theta <= 1:
        yield "rope", f"`theta` must be above 1: got {rope.theta:g}", ""
    scaling = rope.scaling
    if scaling is not None and scaling.kind == "llama3" and not scaling.low_freq_factor < scaling.high_freq_factor:
        got = f"got {scaling.low_freq_factor:g} and {scaling.high_freq_factor:g}"
        yield "rope", f"`low_freq_factor` must be below `high_freq_factor`: {got}", ""


def _kept_pairs(rope: Rope, head_dim: int, pairs: list[int]) -> Rope:
    """The embedding of some of the rotated pairs, each at the frequency it had."""
    from archc.kernels.reference import rotary_frequencies

    scaling = None if rope.scaling is None else asdict(rope.scaling)
    given = {"theta": rope.theta, "partial": rope.partial, "scaling": scaling, "frequencies": rope.frequencies}
    had = rotary_frequencies(head_dim, **given)[0].tolist()  # type: ignore[arg-type]
    scales = scaling if scaling is not None and scaling["kind"] == "yarn" else None  # else all in the frequencies
    return replace(rope, scaling=rope.scaling if scales else None, frequencies=tuple(had[i] for i in pairs))


def _channel_order(rope: Rope | None) -> str:
    """Rotated channels move in pairs; beside a part that is not rotated they do not move at all."""
    if rope is None:
        return "free"
    return "pairs" if math.isclose(rope.partial, 1.0) else "fixed"
