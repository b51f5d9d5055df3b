"""Hardware profiles by name or file: `load_hardware("4xh100")`, `load_hardware("my-machine.yaml")`.

Each `<name>.yaml` here is one device as its vendor states it (dense rates), with a source for every figure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from archc.ir.formats import get_format
from archc.ir.hardware import MATMUL_EFFICIENCY, MEMORY_EFFICIENCY, OPTIMIZER, HardwareProfile, Mode, OpTiming
from archc.kernels.errors import ArchcError, UnknownName
from archc.units import parse_size
from archc.yamlfile import load_model

LOCAL = "local"

_HERE = Path(__file__).parent
_SEVERAL = re.compile(r"(?:(?P<devices>[1-9]\d{0,6})x)?(?P<device>.+)")


class Law(BaseModel):
    """A measured law of time for one kind of op: microseconds for a call, and for what it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    overhead_us: float = Field(0.0, ge=0)
    us_per_weight_gflop: float = Field(0.0, description="products with parameters", ge=0)
    us_per_value_gflop: float = Field(0.0, description="products between values", ge=0)
    us_per_weight_mb: float = Field(0.0, ge=0)
    us_per_state_mb: float = Field(0.0, ge=0)
    us_per_activation_mb: float = Field(0.0, ge=0)
    us_per_table: float = Field(0.0, description="constant tables, such as rotary frequencies", ge=0)

    def timing(self) -> OpTiming:
        """The law in seconds for each FLOP and byte."""
        return OpTiming(**{name: getattr(self, field) * scale for name, (field, scale) in LAW_UNITS.items()})

    @classmethod
    def of(cls, timing: OpTiming) -> Law:
        """The law in microseconds, to four digits."""
        return cls(
            **{field: float(f"{getattr(timing, name) / scale:.4g}") for name, (field, scale) in LAW_UNITS.items()}
        )


# Part of an OpTiming -> the field of a Law that holds it, and its unit in seconds for each FLOP, byte or table.
LAW_UNITS = {
    "overhead_s": ("overhead_us", 1e-6),
    "weight_flops": ("us_per_weight_gflop", 1e-15),
    "value_flops": ("us_per_value_gflop", 1e-15),
    "weights_moved": ("us_per_weight_mb", 1e-12),
    "state_moved": ("us_per_state_mb", 1e-12),
    "activations_moved": ("us_per_activation_mb", 1e-12),
    "tables": ("us_per_table", 1e-6),
}


class HardwareFile(BaseModel):
    """The fields of a hardware YAML. Rates are dense peaks of one device; efficiencies are parts of them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

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
    measured: dict[str, dict[Mode, dict[str, Law]]] = Field(
        default_factory=dict, description="laws that `archc profile` found: by format of weights, mode and kind of op"
    )
    sources: dict[str, str] = Field(default_factory=dict, description="by field: where its figure comes from")

    @field_validator("memory", mode="before")
    @classmethod
    def _size(cls, value: str | int) -> int:
        return parse_size(value)

    @field_validator("measured")
    @classmethod
    def _laws_by_format(cls, laws: dict[str, dict[Mode, dict[str, Law]]]) -> dict[str, dict[Mode, dict[str, Law]]]:
        for name, modes in laws.items():
            _check_format(name)
            _check_kinds(kind for of_mode in modes.values() for kind in of_mode)
        return {get_format(name).name: modes for name, modes in laws.items()}

    @field_validator("peak_tflops", "matmul_efficiency")
    @classmethod
    def _rates_by_format(cls, rates: dict[str, float]) -> dict[str, float]:
        for name, rate in rates.items():
            _check_format(name)
            if rate <= 0:
                raise ValueError(f"expected a rate above 0 for `{name}`: got {rate}")
        return {get_format(name).name: rate for name, rate in rates.items()}

    @field_validator("matmul_efficiency")
    @classmethod
    def _at_most_the_peak(cls, parts: dict[str, float]) -> dict[str, float]:
        for name, part in parts.items():
            if part > 1:
                raise ValueError(f"expected a part of the peak, at most 1, for `{name}`: got {part}")
        return parts

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
    """The profile of `h100`, of several (`4xh100`, `64xh100`), of a YAML file of one's own, or of this machine
    (`local`, once `archc profile` has measured it).

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
    if device.lower() == LOCAL:
        if not local_profile().is_file():
            raise ArchcError(f"this machine has not been measured: run `archc profile` (writes {local_profile()})")
        return local_profile()
    if device.lower() not in hardware_names():
        raise UnknownName("hardware", device, hardware_names())
    return _HERE / f"{device.lower()}.yaml"


def local_profile() -> Path:
    """Where `archc profile` writes the machine at hand, which `--hardware local` reads."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "archc" / f"{LOCAL}.yaml"


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
        measured={
            fmt: {mode: {kind: law.timing() for kind, law in laws.items()} for mode, laws in modes.items()}
            for fmt, modes in given.measured.items()
        },
    )


def _check_kinds(kinds: Iterable[str]) -> None:
    from archc.ir.op import registered_ops

    known = {OPTIMIZER, *(op.kind for op in registered_ops())}
    for kind in kinds:
        if kind not in known:
            raise ValueError(str(UnknownName("kind of op", kind, known)))


def _check_format(name: str) -> None:
    try:
        get_format(name)
    except UnknownName as error:
        raise ValueError(str(error)) from error
