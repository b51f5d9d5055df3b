"""The cost sheet: what a model costs under a workload, in named figures, as people read it and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from archc.ir.workload import Workload


@dataclass(frozen=True)
class ParamFigures:
    """Numbers of parameters, a tied matrix counted once.

    `total` and `active` (what one token meets) leave multi-token prediction out; `mtp` is that, each parameter once
    however many steps use it. `active_without_embedding` leaves the input embedding out where it is a matrix of its
    own.
    """

    total: int
    active: int
    active_without_embedding: int
    mtp: int


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes on all devices together.

    `weights_bytes` includes multi-token prediction unless it was left out; state is that of the whole batch at the
    context. `resident_bytes` is weights and state, `activation_bytes` the largest live set of one call (a prefill
    chunk, logits of last positions only; scores within attention and the scan are not kept, as fused kernels do not),
    and `peak_bytes` both with the profile's reserve. `mtp_state_bytes`, what drafting keeps beside that, is in none of
    them.
    """

    weights_bytes: int
    kv_bytes: int
    ssm_bytes: int
    conv_bytes: int
    resident_bytes: int
    activation_bytes: int
    reserve_bytes: int
    peak_bytes: int
    mtp_state_bytes: int


@dataclass(frozen=True)
class FlopsFigures:
    """FLOPs of matrix products, convolutions and contractions, 2 per multiply-add.

    `prefill` is of the batch's input; `decode_per_token` of one step, which gives every sequence of the batch one
    token. Neither includes multi-token prediction: `mtp_per_token` is that of drafting with every one of its steps,
    logits included.
    """

    prefill: int
    decode_per_token: int
    mtp_per_token: int


@dataclass(frozen=True)
class LatencyFigures:
    """Seconds: to prefill the batch's input, and of one decode step of the batch at the context."""

    prefill_s: float
    decode_s_per_token: float


@dataclass(frozen=True)
class ThroughputFigures:
    """`max_batch` is the largest batch whose peak fits; `output_tokens_per_s` is at `batch`, prefill included.

    Without `output` the rate is that of decode steps at the context alone. `max_batch` is None where nothing bounds
    it; a model too large for one sequence has 0, and no rate.
    """

    max_batch: int | None
    batch: int
    output_tokens_per_s: float | None


@dataclass(frozen=True)
class NodeCost:
    """What nodes of equal op, sizes and formats cost: one figure each, and how many there are.

    State, FLOPs and times are of the sheet's batch: `prefill` of its input, `decode` of one step. `bound` says what
    the decode step waits for most: compute, memory, (where measured) overhead, or nothing without a profile.
    """

    nodes: tuple[str, ...]
    kind: str
    sizes: tuple[tuple[str, int], ...]
    mtp: bool
    params: int
    weights_bytes: int
    state_bytes: int
    prefill_flops: int
    decode_flops: int
    elementwise: int
    moved_bytes: int
    prefill_s: float | None
    decode_s: float | None
    bound: str

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)


@dataclass(frozen=True)
class CostSheet:
    """What a graph costs under a workload; latency and throughput only on a hardware profile."""

    model: str
    workload: Workload
    formats: dict[str, str]
    hardware: dict[str, Any] | None
    params: ParamFigures
    memory: MemoryFigures
    flops: FlopsFigures
    latency: LatencyFigures | None
    throughput: ThroughputFigures | None
    nodes: tuple[NodeCost, ...] = field(repr=False)

    def to_json(self, *, explain: bool = False) -> dict[str, Any]:
        """Plain data for JSON; the nodes only with `explain`."""
        data = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "nodes"}
        data["latency"] = data["latency"] or _nothing(LatencyFigures)
        data["throughput"] = data["throughput"] or _nothing(ThroughputFigures)
        if explain:
            data["nodes"] = [{**dataclasses.asdict(n), "count": n.count, "sizes": dict(n.sizes)} for n in self.nodes]
        return data


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _nothing(figures: type[Any]) -> dict[str, None]:
    return {f.name: None for f in dataclasses.fields(figures)}
