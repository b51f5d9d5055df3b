"""The cost of a graph under a workload: parameters, memory, FLOPs, latency and throughput.

    >>> from archc.ir.build import build_model
    >>> from archc.ir.ops.mlp import MLP
    >>> graph = build_model(name="one", d_model=64, vocab=100, layers=[("mlp", MLP.Fields(d_ff=256))])
    >>> cost_sheet(graph, context=1024).params.total
    45696

Figures are sums over distinct (op, sizes, formats) of `archc.ir.cost_op`'s expressions; `archc.ir.cost_program` runs
the same expressions on arrays, tensors and as JSON.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archc.ir.arithmetic import Number
from archc.ir.capacity import max_batch
from archc.ir.cost_graph import Costed, Group, serves
from archc.ir.cost_op import STATE_CLASSES, product_flops
from archc.ir.cost_sheet import (
    CostSheet,
    FlopsFigures,
    LatencyFigures,
    MemoryFigures,
    NodeCost,
    ParamFigures,
    ThroughputFigures,
)
from archc.ir.graph import Graph
from archc.ir.hardware import HardwareProfile, Mode, OpTiming
from archc.ir.latency import call_s, hardware_env, time_parts
from archc.ir.workload import PREFILL_CHUNK, FormatChoice, Workload

__all__ = ["CostSheet", "FormatChoice", "Workload", "cost_sheet", "product_flops"]


def cost_sheet(
    graph: Graph,
    profile: HardwareProfile | None = None,
    *,
    context: int | None = None,
    batch: int | None = None,
    input: int | None = None,
    output: int | None = None,
    format: str | None = None,
    kv_format: str | None = None,
    ssm_format: str | None = None,
    conv_format: str | None = None,
    prefill_chunk: int = PREFILL_CHUNK,
    mtp: bool = True,
) -> CostSheet:
    """What `graph` costs; latency and throughput only on a `profile`.

    `context`, `input` and `output` are tokens of one sequence, the context their sum; `format` replaces the format of
    every parameter; `mtp=False` leaves multi-token prediction out of memory. Raises UnsupportedError for a workload
    that does not add up and UnknownName for a format.
    """
    workload = Workload.of(context=context, input=input, output=output, batch=batch, prefill_chunk=prefill_chunk)
    choice = FormatChoice(format, kv_format, ssm_format, conv_format)
    return _Sheet(Costed(graph, choice, mtp), workload, profile).made()


def sums(costed: Costed, workload: Workload, profile: HardwareProfile | None = None) -> dict[str, int | float]:
    """The figures of a sheet that are sums over nodes, by name; seconds only on a `profile`.

    The edges of the graph are not looked at: it may be one on the way from one model to another."""
    return _Sheet(costed, workload, profile).sums()


@dataclass(frozen=True)
class _Sheet:
    """One sheet in the making."""

    costed: Costed
    workload: Workload
    profile: HardwareProfile | None

    def made(self) -> CostSheet:
        timed = self.profile is not None
        return CostSheet(
            model=self.costed.graph.name,
            workload=self.workload,
            formats=self.costed.formats,
            hardware=None if self.profile is None else self.profile.described(),
            params=self.params(),
            memory=self.memory(self.workload.sequences),
            flops=self.flops(),
            latency=self.latency(self.workload.sequences) if timed else None,
            throughput=self.throughput() if timed else None,
            nodes=tuple(self.node(g) for g in self.costed.groups),
        )

    def params(self) -> ParamFigures:
        active = self.costed.params("active")
        return ParamFigures(
            total=self.costed.params(),
            active=active,
            active_without_embedding=active - self.costed.untied_embedding,
            mtp=self.costed.params(mtp=True),
        )

    def memory(self, batch: int) -> MemoryFigures:
        state = {name: batch * each for name, each in self.costed.state_bytes(self.workload.context).items()}
        weights, activation = self.costed.weights_bytes, self.costed.activation_bytes(self.workload, batch)
        reserve = self.profile.total_reserve_bytes if self.profile else 0
        resident = weights + sum(state.values())
        return MemoryFigures(
            weights_bytes=weights,
            **{f"{name}_bytes": value for name, value in state.items()},
            resident_bytes=resident,
            activation_bytes=activation,
            reserve_bytes=reserve,
            peak_bytes=resident + activation + reserve,
            mtp_state_bytes=batch * self.draft_state_bytes,
        )

    def sums(self) -> dict[str, int | float]:
        params, flops = self.params(), self.flops()
        batch, weights = self.workload.sequences, self.costed.weights_bytes
        state = batch * sum(self.costed.state_bytes(self.workload.context).values())
        found: dict[str, int | float] = {
            "params": params.total,
            "params_active": params.active,
            "params_mtp": params.mtp,
            "weights_bytes": weights,
            "state_bytes": state,
            "resident_bytes": weights + state,
            "prefill_flops": flops.prefill,
            "decode_flops": flops.decode_per_token,
        }
        if self.profile is None:
            return found
        return {**found, "prefill_s": self.prefill_s(batch), "decode_s": self.decode_s(batch, self.workload.context)}

    @property
    def draft_state_bytes(self) -> int:
        """State that drafting keeps of one sequence."""
        return sum(self.costed.state_bytes(self.workload.context, mtp=True).values()) if self.costed.mtp else 0

    def flops(self) -> FlopsFigures:
        batch = self.workload.sequences
        one = decode_env(1, self.workload.context)
        return FlopsFigures(
            prefill=math.ceil(batch * self.costed.sum("flops", prompt_env(self.workload), serves)),
            decode_per_token=math.ceil(batch * self.costed.sum("flops", one, serves)),
            mtp_per_token=math.ceil(batch * self.draft_flops(one)),
        )

    def draft_flops(self, env: Mapping[str, Any]) -> Number:
        """FLOPs of one sequence drafting with every step of multi-token prediction, its logits included."""
        blocks = self.costed.sum("flops", env, lambda g: g.mtp)
        return blocks + self.costed.graph.mtp_steps * self.costed.sum("flops", env, lambda g: g.cost.at_logits)

    # -- time ----------------------------------------------------------------------------------------------------------

    def latency(self, batch: int) -> LatencyFigures:
        return LatencyFigures(self.prefill_s(batch), self.decode_s(batch, self.workload.context))

    def prefill_s(self, batch: int) -> float:
        """Seconds to prefill a batch's input, chunk by chunk: as many calls as it takes, each of the mean one."""
        calls, env = prefill_calls(self.workload, batch)
        return calls * sum(len(g.nodes) * self.seconds(g, env, "prefill") for g in self.costed.groups if serves(g))

    def decode_s(self, batch: int, context: float) -> float:
        """Seconds of one decode step of a batch at a context."""
        env = decode_env(batch, context)
        return sum(len(g.nodes) * self.seconds(g, env, "decode") for g in self.costed.groups if serves(g))

    def seconds(self, group: Group, env: Mapping[str, Any], mode: Mode) -> float:
        """Seconds of one call of one of the group's nodes."""
        law = call_s(group.cost, self.timing(group, mode))
        return float(law.evaluate({**self.timed_env, **group.sizes, **env}))

    def timing(self, group: Group, mode: Mode) -> OpTiming | None:
        """The measured law of the group's op, if the profile has one."""
        if self.profile is None:
            return None
        return self.profile.timing(self.costed.formats["weights"], mode, group.nodes[0].op.kind)

    @functools.cached_property
    def timed_env(self) -> dict[str, Any]:
        """What formats and hardware stand for. Only asked for on a profile."""
        hardware = hardware_env(self.profile, self.costed.formats) if self.profile else {}
        return {**self.costed.env, **hardware}

    def throughput(self) -> ThroughputFigures:
        largest = self.max_batch()
        batch = self.workload.batch or (largest if largest is not None else 1)
        return ThroughputFigures(largest, batch, self.output_rate(batch) if batch else None)

    def max_batch(self) -> int | None:
        """The largest batch whose peak fits the profile's devices."""
        if self.profile is None:
            return None
        room = self.profile.total_memory_bytes - self.profile.total_reserve_bytes - self.costed.weights_bytes
        each = sum(self.costed.state_bytes(self.workload.context).values())
        return max_batch(room, each, self.costed.live_sets, self.workload)

    def output_rate(self, batch: int) -> float:
        """Output tokens per second of a batch that is prefilled and then decoded, at the mean context."""
        output = self.workload.output
        if not output:
            return batch / self.decode_s(batch, self.workload.context)
        mean = self.workload.input + (output + 1) / 2
        return batch * output / (self.prefill_s(batch) + output * self.decode_s(batch, mean))

    # -- node by node --------------------------------------------------------------------------------------------------

    def node(self, group: Group) -> NodeCost:
        batch, context = self.workload.sequences, self.workload.context
        step = decode_env(batch, context)
        env = {**self.costed.env, **step}
        params, weights, *state = group.evaluate(env, "params", "weight_bytes", *STATE_CLASSES)
        flops, elementwise, moved = group.evaluate(env, "flops", "elementwise", "bytes_moved")
        (prompt,) = group.evaluate({**self.costed.env, **prompt_env(self.workload)}, "flops")
        calls, chunk = prefill_calls(self.workload, batch)
        timed = self.profile is not None
        return NodeCost(
            nodes=tuple(n.id for n in group.nodes),
            kind=group.nodes[0].op.kind,
            sizes=tuple(group.sizes.items()),
            mtp=group.mtp,
            params=params if group.owns else 0,
            weights_bytes=math.ceil(weights) if group.owns else 0,
            state_bytes=0 if group.mtp else batch * math.ceil(sum(state)),
            prefill_flops=math.ceil(batch * prompt),
            decode_flops=math.ceil(batch * flops),
            elementwise=math.ceil(elementwise),
            moved_bytes=math.ceil(moved),
            prefill_s=calls * self.seconds(group, chunk, "prefill") if timed else None,
            decode_s=self.seconds(group, step, "decode") if timed else None,
            bound=self.bound(group, step) if timed else "",
        )

    def bound(self, group: Group, env: Mapping[str, Any]) -> str:
        """What a decode step of the group waits for most."""
        timed = {**self.timed_env, **group.sizes, **env}
        parts = time_parts(group.cost, self.timing(group, "decode"))
        return max(parts, key=lambda name: float(parts[name].evaluate(timed)))


def prompt_env(workload: Workload) -> dict[str, Any]:
    """One sequence prefilled whole, logits of its last position."""
    return {"batch": 1, "tokens": workload.input, "context": workload.input, "logits": 1}


def decode_env(batch: int, context: float) -> dict[str, Any]:
    """One decode step of a batch."""
    return {"batch": batch, "tokens": 1, "context": context, "logits": 1}


def prefill_calls(workload: Workload, batch: int) -> tuple[float, dict[str, Any]]:
    """How many calls prefill a batch's input, and the mean call.

    A call takes as much of one sequence as the chunk allows, and several sequences where they are shorter. The mean
    context is that in the middle of the input: what grows with the context is linear in it.
    """
    tokens = min(workload.prefill_chunk, workload.input)
    sequences = min(batch, workload.prefill_chunk / tokens)
    calls = batch * workload.input / (tokens * sequences)
    return calls, {"batch": sequences, "tokens": tokens, "context": (workload.input + tokens) / 2, "logits": 1}
