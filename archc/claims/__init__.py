"""Published throughput ratios as YAML, and what arithmetic gives for them: `archc zoo --claims`.

Each file is one claim: two zoo models, hardware, input, output, batch rule, formats per side, the published ratio and
its source. A claim that arithmetic cannot reach (it hangs on the engines of its day) says `reachable: false`: it is
computed and shown like the others, never fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from archc.hardware import load_hardware
from archc.ir.cost import cost_sheet
from archc.ir.cost_sheet import CostSheet
from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.kernels.errors import UnknownName
from archc.spec import load_spec
from archc.units import parse_count
from archc.yamlfile import load_model
from archc.zoo import path

_HERE = Path(__file__).parent

TOLERANCE = 1.35


def _known_format(name: str) -> str:
    try:
        return get_format(name).name
    except UnknownName as error:
        raise ValueError(str(error)) from error


Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
FormatName = Annotated[str, AfterValidator(_known_format)]


class ClaimFormats(BaseModel):
    """Formats of one side by class; weights left out are in the model's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: FormatName | None = None
    kv: FormatName | None = None
    ssm: FormatName | None = None
    conv: FormatName | None = None


class Sides(BaseModel):
    """Formats of both sides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ClaimFormats
    baseline: ClaimFormats


class AtMost(BaseModel):
    """The largest batch that fits, but no more than this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_most: Count


class Claim(BaseModel):
    """A published ratio of output tokens per second, `model` over `baseline`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    baseline: str
    hardware: str
    input: Count
    output: Count
    batch: Literal["max"] | AtMost
    formats: Sides
    published_ratio: float = Field(gt=0)
    reachable: bool
    source: str

    @property
    def most(self) -> int | None:
        """The largest batch that the claim allows; None for any that fits."""
        return None if self.batch == "max" else self.batch.at_most


@dataclass(frozen=True)
class Side:
    """One side of a computed claim."""

    model: str
    batch: int
    output_tokens_per_s: float


@dataclass(frozen=True)
class Outcome:
    """A claim with what archc computes for it; `ratio` is None when a side does not fit the hardware."""

    claim: Claim
    model: Side | None
    baseline: Side | None

    @property
    def ratio(self) -> float | None:
        """The computed ratio."""
        if self.model is None or self.baseline is None:
            return None
        return self.model.output_tokens_per_s / self.baseline.output_tokens_per_s

    @property
    def factor(self) -> float | None:
        """How far the computed ratio is from the published one, as a factor of at least 1."""
        if self.ratio is None:
            return None
        return max(self.ratio / self.claim.published_ratio, self.claim.published_ratio / self.ratio)

    @property
    def holds(self) -> bool:
        """Whether the computed ratio is within the tolerance of the published one."""
        return self.factor is not None and self.factor <= TOLERANCE


def load_claims() -> dict[str, Claim]:
    """Every claim by name. Raises SpecErrors for a file that is wrong."""
    return {file.stem: load_model(file, Claim) for file in sorted(_HERE.glob("*.yaml"))}


def compute(claim: Claim) -> Outcome:
    """The computed throughput of both sides."""
    return Outcome(
        claim,
        _side(claim, claim.model, claim.formats.model),
        _side(claim, claim.baseline, claim.formats.baseline),
    )


def _side(claim: Claim, model: str, formats: ClaimFormats) -> Side | None:
    graph = load_spec(path(model)).graph()
    found = _sheet(claim, graph, formats, None).throughput
    if claim.most is not None and found is not None and (found.max_batch is None or found.max_batch > claim.most):
        found = _sheet(claim, graph, formats, claim.most).throughput
    if found is None or found.output_tokens_per_s is None:
        return None
    return Side(model, found.batch, found.output_tokens_per_s)


def _sheet(claim: Claim, graph: Graph, formats: ClaimFormats, batch: int | None) -> CostSheet:
    return cost_sheet(
        graph,
        load_hardware(claim.hardware),
        input=claim.input,
        output=claim.output,
        batch=batch,
        format=formats.weights,
        kv_format=formats.kv,
        ssm_format=formats.ssm,
        conv_format=formats.conv,
        mtp=False,
    )
