"""Hardware profiles by name or file: `load_hardware("4xh100")`, `load_hardware("my-machine.yaml")`.

Each `<name>.yaml` here is one device as its vendor states it (dense rates), with a source for every figure.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from archc.ir.formats import get_format
from archc.ir.hardware import MATMUL_EFFICIENCY, MEMORY_EFFICIENCY, HardwareProfile
from archc.kernels.errors import UnknownName
from archc.units import parse_size
from archc.yamlfile import load_model

_HERE = Path(__file__).parent
_SEVERAL = re.compile(r"(?:(?P<devices>[1-9]\d{0,6})x)?(?P<device>.+)")


class HardwareFile(BaseModel):
    """The fields of a hardware YAML. Rates are dense peaks of one device; efficiencies are parts of them."""

    model_config = ConfigDict(extra="forbid")

    title: str
    memory: int = Field(description="what a program sees, such as 79.11GiB", gt=0)
    reserve: float = Field(0.05, description="part of memory that the framework keeps", ge=0, lt=1)
    bandwidth_gb_s: float = Field(gt=0)
    peak_tflops: dict[str, float] = Field(description="by format; bf16 must be there")
    matmul_efficiency: dict[str, float] = Field(
        default_factory=dict, description=f"by format, else {MATMUL_EFFICIENCY}"
    )
    memory_efficiency: float = Field(MEMORY_EFFICIENCY, gt=0, le=1)
    link_gb_s: float = Field(0.0, description="to the other devices, per direction", ge=0)
    link_latency_us: float = Field(0.0, ge=0)
    sources: dict[str, str] = Field(default_factory=dict, description="by field: where its figure comes from")

    @field_validator("memory", mode="before")
    @classmethod
    def _size(cls, value: str | int) -> int:
        return parse_size(value)

    @field_validator("peak_tflops", "matmul_efficiency")
    @classmethod
    def _rates_by_format(cls, rates: dict[str, float]) -> dict[str, float]:
        for name, rate in rates.items():
            _check_format(name)
            if rate <= 0:
                raise ValueError(f"expected a rate above 0 for `{name}`: got {rate}")
        return {get_format(name).name: rate for name, rate in rates.items()}

    @field_validator("peak_tflops")
    @classmethod
    def _has_bf16(cls, rates: dict[str, float]) -> dict[str, float]:
        if "bf16" not in rates:
            raise ValueError("expected a rate for `bf16`, which formats without their own fall back to")
        return rates

    @field_validator("sources")
    @classmethod
    def _sources_name_fields(cls, sources: dict[str, str]) -> dict[str, str]:
        for name in sources:
            if name not in cls.model_fields:
                raise ValueError(str(UnknownName("field", name, cls.model_fields)))
        return sources


def hardware_names() -> list[str]:
    """The names of the profiles that archc ships."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load_hardware(text: str) -> HardwareProfile:
    """The profile of `h100`, of several (`4xh100`, `64xh100`), or of a YAML file of one's own.

    >>> str(load_hardware("4xh100")), load_hardware("a10g").bandwidth_bytes_s
    ('4xh100', 600000000000.0)

    Raises UnknownName with a suggestion, SpecErrors for a file that is wrong, and UnsupportedError for several
    devices that state no link.
    """
    match = _SEVERAL.fullmatch(text.strip())
    if match is None:
        raise UnknownName("hardware", text, hardware_names())
    path = _path(match["device"])
    return _profile(path.stem, load_model(path, HardwareFile)).times(int(match["devices"] or 1))


def _path(device: str) -> Path:
    if device.endswith((".yaml", ".yml")):
        return Path(device)
    if device.lower() not in hardware_names():
        raise UnknownName("hardware", device, hardware_names())
    return _HERE / f"{device.lower()}.yaml"


def _profile(name: str, given: HardwareFile) -> HardwareProfile:
    return HardwareProfile(
        name=name,
        memory_bytes=given.memory,
        reserve_bytes=round(given.memory * given.reserve),
        peak_flops={fmt: rate * 1e12 for fmt, rate in given.peak_tflops.items()},
        bandwidth_bytes_s=given.bandwidth_gb_s * 1e9,
        link_bytes_s=given.link_gb_s * 1e9,
        link_latency_s=given.link_latency_us * 1e-6,
        matmul_efficiency=given.matmul_efficiency,
        memory_efficiency=given.memory_efficiency,
        sources=given.sources,
    )


def _check_format(name: str) -> None:
    try:
        get_format(name)
    except UnknownName as error:
        raise ValueError(str(error)) from error
