"""Mixture of experts in a latent space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from typing_extensions import Doc

from archc.ir.dims import Dim
from archc.ir.fields import Size
from archc.ir.op import DimMaker, Init, Maths, Param, Value, op
from archc.ir.ops.moe import MoE, MoEFields

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LatentMoEFields(MoEFields):
    """What a spec says of a latent_moe block."""

    latent: Annotated[Size, Doc("width that the routed experts read and write")]


@op("latent_moe")
class LatentMoE(MoE):
    """LatentMoE: experts of width `latent` between a down- and an up-projection; router and shared expert stay at
    d_model (Nemotron 3 white paper, arXiv 2512.20856, section 2.2).
    """

    scored = MappingProxyType({**MoE.scored, "latent": "mixed"})

    latent: Dim

    Fields: ClassVar[Any] = LatentMoEFields
    Examples = (
        {"experts": 6, "top_k": 2, "d_ff": 12, "shared_d_ff": 9, "activation": "relu2", "router": "sigmoid",
         "correction_bias": True, "scale": 5.0, "latent": 8},
        {"experts": 8, "top_k": 3, "d_ff": 20, "activation": "silu", "gated": True, "latent": 16},
    )  # fmt: skip

    @classmethod
    def _more(cls, fields: Any, d: DimMaker) -> dict[str, Dim]:
        return {"latent": d("latent", fields.latent)}

    @property
    def summary(self) -> str:
        shared = ", and a shared one outside" if self.shared_d_ff is not None else ""
        return f"Experts that read and write `latent` channels{shared} (Nemotron 3, arXiv 2512.20856, section 2.2)."

    @property
    def expert_width(self) -> Dim:
        return self.latent

    def params(self) -> Iterator[Param]:
        yield from super().params()
        normal = Init("normal", (self.init_std,))
        yield Param("latent_down", (self.latent, self.d_model), normal, contracts=self.d_model)
        yield Param("latent_up", (self.d_model, self.latent), normal, contracts=self.latent)

    def values(self) -> Iterator[Value]:
        yield from super().values()
        yield Value("latent", 2 * self.expr(self.latent))

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import linear

        (x,) = inputs
        tokens = x.reshape(-1, m.d_model)  # [T, D]
        weights, experts = self._choose(m, tokens)
        z = m.tap("latent", linear(tokens, m.latent_down), self.latent)  # [T, latent]
        mixed = m.tap("mixed", self._mix(m, z, weights, experts), self.latent)  # [T, latent]
        y = linear(mixed, m.latent_up).view(x.shape)  # [B, L, D]
        if self.shared_d_ff is not None:
            y = y + self._shared_forward(m, x)
        return y
