"""Mixture of experts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from typing_extensions import Doc

from archc.ir.dims import Axis, Dim
from archc.ir.expr import Num, Sym
from archc.ir.fields import Deviation, Positive, Size
from archc.ir.op import ZEROS, DimMaker, Init, Maths, Op, Param, Value, op, stream
from archc.ir.ops.mlp import Activation, check_gate, gate_unit, unit
from archc.kernels.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MoEFields:
    """What a spec says of a moe block."""

    experts: Annotated[Size, Doc("routed experts")]
    top_k: Annotated[Size, Doc("experts that a token meets")]
    d_ff: Annotated[Size, Doc("hidden width of a routed expert")]
    shared_d_ff: Annotated[Size | None, Doc("hidden width of the shared expert; none when left out")] = None
    activation: Annotated[Activation, Doc("applied to the gate when `gated`, else to the hidden values")] = "silu"
    gated: Annotated[bool, Doc("whether a second projection gates the hidden values")] = False
    router: Annotated[Literal["softmax", "sigmoid"], Doc("how the router's logits become scores")] = "softmax"
    correction_bias: Annotated[bool, Doc("whether a bias takes part in the choice, not in the weights")] = False
    expert_groups: Annotated[Size, Doc("equal groups of experts, `top_groups` of which a token chooses first")] = 1
    top_groups: Annotated[Size, Doc("groups of experts that a token may choose from")] = 1
    renormalize: Annotated[bool, Doc("whether the weights of the chosen experts are made to sum to one")] = True
    scale: Annotated[Positive, Doc("factor on those weights")] = 1.0
    bias: Annotated[bool, Doc("whether the experts' projections have biases")] = False
    router_bias: Annotated[bool, Doc("whether the router has a bias")] = False
    alpha: Annotated[Positive, Doc("slope of `clamped_swiglu`")] = 1.702
    limit: Annotated[Positive, Doc("bound of `clamped_swiglu`")] = 7.0
    init_std: Annotated[Deviation, Doc("standard deviation that matrices start with; else `init.std`")] = 0.02


@op("moe")
class MoE(Op):
    """Routed experts and an optional shared one; each token meets `top_k` of `experts` (Shazeer et al. 2017).

    The router works in fp32. With `score: sigmoid` the choice is made on score + correction bias, the weights are
    the scores themselves, renormalised and scaled (DeepSeek-V3 2024, section 2.1.2). With `held` only so many experts,
    from `first_held` on, have their weights here: the choice is among all, those of others contribute nothing.
    """

    letter = "E"
    exact = frozenset({"experts", "d_ff", "shared_d_ff"})
    optional = frozenset({"router_bias", "correction_bias", "up_bias", "gate_proj", "gate_bias", "down_bias"})
    exposes = MappingProxyType({"experts": "router_logits", "choice": "router_choice"})
    spreads = "experts"
    scored = MappingProxyType({"experts": "expert_out", "d_ff": "expert_hidden", "shared_d_ff": "shared"})

    d_model: Dim
    experts: Dim
    d_ff: Dim
    shared_d_ff: Dim | None = None
    held: Dim | None = None
    top_k: int
    activation: str = "silu"
    gated: bool = False
    score: str = "softmax"
    has_correction_bias: bool = False
    expert_groups: int = 1
    top_groups: int = 1
    renormalize: bool = True
    scale: float = 1.0
    bias: bool = False
    has_router_bias: bool = False
    alpha: float = 1.702
    limit: float = 7.0
    init_std: float = 0.02
    first_held: int = 0

    Fields: ClassVar[Any] = MoEFields
    Examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"experts": 6, "top_k": 2, "d_ff": 12, "shared_d_ff": 9, "activation": "relu2", "router": "sigmoid",
         "correction_bias": True, "scale": 2.5},
        {"experts": 8, "top_k": 3, "d_ff": 20, "activation": "silu", "gated": True},
        {"experts": 5, "top_k": 2, "d_ff": 8, "activation": "clamped_swiglu", "gated": True, "bias": True,
         "router_bias": True},
        {"experts": 8, "top_k": 3, "d_ff": 12, "router": "sigmoid", "correction_bias": True, "expert_groups": 4,
         "top_groups": 2, "renormalize": False},
    )  # fmt: skip

    @classmethod
    def check(cls, fields: Any) -> Iterator[tuple[str, str, str]]:
        yield from check_gate(fields)
        if fields.top_k > fields.experts:
            yield "top_k", f"`top_k` must not exceed `experts`: got top_k={fields.top_k}, experts={fields.experts}", ""
        if fields.experts % fields.expert_groups:
            message = f"`experts` must be divisible by `expert_groups`: got {fields.experts} and {fields.expert_groups}"
            yield "expert_groups", message, ""
        if fields.top_groups > fields.expert_groups:
            yield "top_groups", f"`top_groups` must not exceed `expert_groups`: got {fields.top_groups}", ""

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        # Expert groups are consecutive experts: reordering would change them.
        experts = d("experts", fields.experts, order="free" if fields.expert_groups == 1 else "fixed")
        return cls(
            d_model=d("d_model"),
            experts=experts,
            d_ff=d("d_ff", fields.d_ff, within=experts),
            shared_d_ff=d("shared_d_ff", fields.shared_d_ff) if fields.shared_d_ff else None,
            **cls._more(fields, d),
            score=fields.router,
            has_correction_bias=fields.correction_bias,
            has_router_bias=fields.router_bias,
            **{name: getattr(fields, name) for name in _SAME},
        )

    @classmethod
    def _more(cls, fields: Any, d: DimMaker) -> dict[str, Any]:
        """Dims that a variant adds."""
        return {}

    def fields(self) -> Any:
        if self.held is not None:
            raise UnsupportedError(f"no spec says which experts a device holds: {self.held} of {self.experts}")
        sizes = {role: d.size for role, d in self.dims.items() if role != "d_model"}
        same = {name: getattr(self, name) for name in _SAME}
        given: dict[str, Any] = {
            **sizes,
            **same,
            "router": self.score,
            "correction_bias": self.has_correction_bias,
            "router_bias": self.has_router_bias,
        }
        return self.Fields(**given)

    @property
    def summary(self) -> str:
        shared = "a shared expert and " if self.shared_d_ff is not None else ""
        return f"Experts: each token meets {shared}`top_k` of `experts` routed ones (Shazeer et al. 2017)."

    def spread(self, first: int) -> Self:
        held = Dim(f"{self.experts.name}.held", self.experts.size)
        return dataclasses.replace(self, held=held, d_ff=dataclasses.replace(self.d_ff, within=held), first_held=first)

    @property
    def stacked(self) -> Dim:
        """The experts whose weights are here."""
        return self.experts if self.held is None else self.held

    @property
    def expert_width(self) -> Dim:
        """The width experts read and write."""
        return self.d_model

    def params(self) -> Iterator[Param]:
        normal = Init("normal", (self.init_std,))
        yield Param("router", (self.experts, self.d_model), normal, contracts=self.d_model)
        if self.has_router_bias:
            yield Param("router_bias", (self.experts,), ZEROS)
        if self.has_correction_bias:
            yield Param("correction_bias", (self.experts,), ZEROS, trained=False)
        yield from self._routed(normal)
        if self.shared_d_ff is not None:
            yield from self._shared(self.shared_d_ff, normal)

    def _routed(self, normal: Init) -> Iterator[Param]:
        share = Num(self.top_k) / Sym("experts")
        width = self.expert_width
        inner, outer = (self.stacked, self.d_ff), (self.stacked, width)
        for name in ("up", "gate") if self.gated else ("up",):
            yield Param(f"{name}_proj", (*inner, width), normal, contracts=width, share=share)
            if self.bias:
                yield Param(f"{name}_bias", inner, ZEROS, share=share)
        yield Param("down_proj", (*inner, width), normal, contracts=self.d_ff, share=share)
        if self.bias:
            yield Param("down_bias", outer, ZEROS, share=share)

    def _shared(self, width: Dim, normal: Init) -> Iterator[Param]:
        for name in ("up", "gate") if self.gated else ("up",):
            yield Param(f"shared_{name}_proj", (width, self.d_model), normal, contracts=self.d_model)
        yield Param("shared_down_proj", (self.d_model, width), normal, contracts=width)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def values(self) -> Iterator[Value]:
        copies = 2 + self.gated
        yield Value("router", self.expr(self.experts))
        yield Value("expert_hidden", copies * self.top_k * self.expr(self.d_ff))
        yield Value("expert_out", self.top_k * self.expr(self.expert_width))
        if self.shared_d_ff is not None:
            yield Value("shared_hidden", copies * self.expr(self.shared_d_ff))

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        tokens = x.reshape(-1, m.d_model)  # [T, D]
        weights, experts = self._choose(m, tokens)
        y: Tensor = self._mix(m, tokens, weights, experts).view(x.shape)  # [B, L, D]
        if self.shared_d_ff is not None:
            y = y + self._shared_forward(m, x)
        return y

    def _choose(self, m: Maths, x: Any) -> Any:
        """Weights and indices of the experts of each token, [T, K] each."""
        from archc.kernels.reference import linear, route, widen

        # Routing is decided in fp32: a rounding of a logit would send the token elsewhere.
        logits = linear(widen(x), widen(m.router), None if m.router_bias is None else widen(m.router_bias))  # [T, E]
        logits = m.tap("experts", logits, self.experts, fill=-math.inf)
        bias = m.tap("correction", m.correction_bias, self.experts, fill=-math.inf)
        weights, experts = route(
            logits,
            bias,
            m.top_k,
            score=self.score,
            expert_groups=m.expert_groups,
            top_groups=m.top_groups,
            renormalize=self.renormalize,
            scale=m.scale,
        )
        experts = m.tap("choice", experts)
        return weights, experts

    def _mix(self, m: Maths, x: Any, weights: Any, experts: Any) -> Any:
        """The weighted sum of the chosen experts' outputs for x [T, width of the experts]."""
        from archc.kernels.reference import expert_mlp, held_expert_mlp

        down = m.tap("d_ff", m.down_proj, self.stacked, self.d_ff, self.expert_width)
        more = {
            "gate": m.gate_proj,
            "up_bias": m.up_bias,
            "gate_bias": m.gate_bias,
            "down_bias": m.down_bias,
            "activation": self.activation,
            "alpha": m.alpha,
            "limit": m.limit,
        }
        if self.held is not None:
            y = held_expert_mlp(x, weights, experts, m.first_held, m.up_proj, down, **more)
        else:
            y = expert_mlp(x, weights, experts, m.up_proj, down, **more)
            self._probe_experts(m, x, weights, experts)
        return y

    def _probe_experts(self, m: Maths, x: Any, weights: Any, experts: Any) -> None:
        """What each expert of a token has inside, and what it adds: its output times its weight."""
        from archc.kernels.reference import expert_hidden, expert_outputs

        def hidden() -> Any:
            unit = {"activation": self.activation, "alpha": m.alpha, "limit": m.limit}
            return expert_hidden(x, experts, m.up_proj, m.gate_proj, m.up_bias, m.gate_bias, **unit)

        def out() -> Any:
            return expert_outputs(hidden(), weights, experts, m.down_proj, m.down_bias)

        m.probe("expert_hidden", hidden, self.experts, self.d_ff, at=experts)
        m.probe("expert_out", out, self.experts, self.expert_width, at=experts)

    def _shared_forward(self, m: Maths, x: Any) -> Any:
        from archc.kernels.reference import linear

        h = linear(x, m.shared_up_proj)  # [B, L, F shared]
        h = gate_unit(self, m, linear(x, m.shared_gate_proj), h) if self.gated else unit(self, h)
        h = m.tap("shared", h, self.shared_d_ff)  # type: ignore[arg-type]
        return linear(h, m.shared_down_proj)


_SAME = (
    "top_k",
    "activation",
    "gated",
    "expert_groups",
    "top_groups",
    "renormalize",
    "scale",
    "bias",
    "alpha",
    "limit",
    "init_std",
)
