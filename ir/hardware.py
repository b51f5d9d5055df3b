"""What a machine can do, as a value that costs are computed over. Files and names are the front's business."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from archc.kernels.errors import UnsupportedError

Mode: TypeAlias = Literal["prefill", "decode", "train"]

# The kind under which a training law of the update of one parameter stands, beside the kinds of ops.
OPTIMIZER = "optimizer"

MATMUL_EFFICIENCY = 0.45
MEMORY_EFFICIENCY = 0.7


@dataclass(frozen=True)
class OpTiming:
    """A measured law of time for one kind of op and one mode: seconds of each unit of what a call does.

    It replaces the roofline of that kind: what `archc profile` finds on the machine at hand.
    """

    overhead_s: float = 0.0
    weight_flops: float = 0.0
    value_flops: float = 0.0
    weights_moved: float = 0.0
    state_moved: float = 0.0
    activations_moved: float = 0.0
    tables: float = 0.0


# Format of weights -> mode -> kind of op -> law. In mode `train` a law includes the backward pass, that of lm_head the
# loss, and OPTIMIZER is the update of one parameter.
Laws: TypeAlias = Mapping[str, Mapping[Mode, Mapping[str, OpTiming]]]


@dataclass(frozen=True)
class HardwareProfile:
    """One kind of device, and how many of them work together.

    Everything but `devices` is per device. `memory_bytes` is what a program sees, `reserve_bytes` the part of it
    that the framework keeps (context, workspaces, fragmentation). `peak_flops` are dense FLOP/s by format name,
    `matmul_efficiency` the part of them that products reach, by format; `memory_efficiency` is the part of
    `bandwidth_bytes_s` that streaming reaches. Efficiencies belong to the hardware, never to a model. The link is
    per direction; its bandwidth is 0 where devices have none. `sources` tells by field where a figure comes from.
    """

    name: str
    memory_bytes: int
    peak_flops: Mapping[str, float]
    bandwidth_bytes_s: float
    reserve_bytes: int = 0
    devices: int = 1
    link_bytes_s: float = 0.0
    link_latency_s: float = 0.0
    matmul_efficiency: Mapping[str, float] = field(default_factory=dict)
    memory_efficiency: float = MEMORY_EFFICIENCY
    sources: Mapping[str, str] = field(default_factory=dict)
    measured: Laws = field(default_factory=dict)

    def timing(self, fmt: str, mode: Mode, kind: str) -> OpTiming | None:
        """The measured law of a kind of op, if there is one."""
        return self.measured.get(fmt, {}).get(mode, {}).get(kind)

    def __hash__(self) -> int:
        return hash((self.name, self.devices, self.memory_bytes, self.bandwidth_bytes_s))

    def compute_format(self, fmt: str) -> str:
        """The format products in `fmt` run in: itself where the device has a rate for it, else bf16.

        Weights in a format without units (fp8 on Ampere, fp4 on Hopper) are widened on the way in; they save
        memory traffic, not arithmetic.
        """
        return fmt if fmt in self.peak_flops else "bf16"

    def flops_per_s(self, fmt: str) -> float:
        """FLOP/s that matrix products in `fmt` reach on one device: peak times efficiency."""
        run = self.compute_format(fmt)
        return self.peak_flops[run] * self.matmul_efficiency.get(run, MATMUL_EFFICIENCY)

    @property
    def bytes_per_s(self) -> float:
        """Bytes per second that streaming reaches on one device: bandwidth times efficiency."""
        return self.bandwidth_bytes_s * self.memory_efficiency

    @property
    def total_memory_bytes(self) -> int:
        """Memory of all devices together."""
        return self.memory_bytes * self.devices

    @property
    def total_reserve_bytes(self) -> int:
        """What the framework keeps on all devices together."""
        return self.reserve_bytes * self.devices

    def described(self) -> dict[str, Any]:
        """The figures that costs were computed with, as plain data; of measured laws only their formats."""
        data = dataclasses.asdict(self)
        efficiency = {fmt: self.matmul_efficiency.get(fmt, MATMUL_EFFICIENCY) for fmt in self.peak_flops}
        return {**data, "matmul_efficiency": efficiency, "measured": sorted(self.measured)}

    def times(self, devices: int) -> HardwareProfile:
        """The same device, this many of them. Raises UnsupportedError for several without a stated link."""
        if devices > 1 and not self.link_bytes_s:
            raise UnsupportedError(f"hardware `{self.name}` states no link between devices: got {devices} of them")
        return dataclasses.replace(self, devices=devices)

    def __str__(self) -> str:
        return self.name if self.devices == 1 else f"{self.devices}x{self.name}"
