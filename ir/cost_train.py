"""What training a graph costs: FLOPs per token, bytes per device, step time, days.

Every device holds a shard of every parameter, its gradient and its optimiser state, gathers one block's parameters
at a time and works on sequences of its own (FSDP). A parameter (each piece of a Concat axis by itself) is sharded along
the one of its Dims that lie within nothing that splits most evenly. Mixed precision with Adam: parameters and
gradients in bf16, a master copy and two moments in fp32. The backward pass takes twice the forward pass; with
`recompute: block` only the residual stream between blocks is kept, and a block's forward pass runs again before its
backward pass. Parameters travel three times a micro-batch (gathered twice, gradients scattered once), overlapped with
compute.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from archc.ir.cost_graph import Costed, Group
from archc.ir.dims import Axis, Concat, Dim
from archc.ir.formats import get_format
from archc.ir.graph import Graph
from archc.ir.hardware import OPTIMIZER, HardwareProfile, Mode, OpTiming
from archc.ir.latency import call_s, hardware_env
from archc.ir.op import Param
from archc.ir.workload import FormatChoice
from archc.kernels.errors import UnsupportedError

PARAMETER_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 2, 2, 12
BACKWARD = 2  # times the forward pass

Recompute = Literal["block", "none"]


@dataclass(frozen=True)
class TrainSheet:
    """What training costs. Bytes are of one device; `flops_per_token` includes backward and recompute.

    `gathered_bytes` are the parameters of the two largest blocks, one running and one on its way; `peak_bytes` adds
    the profile's reserve. `mfu` is the part of the devices' dense bf16 peak that forward and backward reach.
    """

    model: str
    tokens: int
    seq: int
    batch_tokens: int
    recompute: Recompute
    hardware: dict[str, Any]
    params: int
    flops_per_token: int
    total_flops: int
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    gathered_bytes: int
    activation_bytes: int
    reserve_bytes: int
    peak_bytes: int
    memory_bytes: int
    micro_batches: int
    step_s: float
    steps: int
    days: float
    tokens_per_s: float
    mfu: float

    @property
    def fits(self) -> bool:
        """Whether a device has room."""
        return self.peak_bytes <= self.memory_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "fits": self.fits}


def train_sheet(
    graph: Graph,
    profile: HardwareProfile,
    *,
    tokens: int,
    seq: int,
    batch_tokens: int,
    recompute: Recompute = "block",
    format: str = "bf16",
) -> TrainSheet:
    """What it costs to train `graph` on `tokens` in sequences of `seq`, `batch_tokens` a step.

    `format` is that of matrix products. Raises UnsupportedError for numbers below one, and for a batch with fewer
    sequences than devices.
    """
    for name, value in {"tokens": tokens, "seq": seq, "batch_tokens": batch_tokens}.items():
        if value < 1:
            raise UnsupportedError(f"`{name}` must be at least 1: got {value}")
    if batch_tokens < profile.devices * seq:
        raise UnsupportedError(
            f"a batch of {batch_tokens} tokens has fewer sequences of {seq} than {profile} has devices; "
            f"use at least {profile.devices * seq} tokens, shorter sequences or fewer devices"
        )
    costed = Costed(graph, FormatChoice(weights=format), mtp=True)
    return _Training(costed, profile, tokens, seq, batch_tokens, recompute).made()


@dataclass(frozen=True)
class _Training:
    """One sheet in the making."""

    costed: Costed
    profile: HardwareProfile
    tokens: int
    seq: int
    batch_tokens: int
    recompute: Recompute

    def made(self) -> TrainSheet:
        devices = self.profile.devices
        shard = sum(shard_elements(p, devices) for _, p in self.costed.graph.params())
        micro = math.ceil(self.batch_tokens / (devices * self.seq))
        per_token, plain = self.flops_per_token(self.recompute == "block"), self.flops_per_token(False)
        step_s = micro * self.micro_s() + self.update_s(shard)
        steps = math.ceil(self.tokens / self.batch_tokens)
        kept = [shard * b for b in (PARAMETER_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES)]
        gathered, activation = self.gathered_bytes(), self.activation_bytes()
        return TrainSheet(
            model=self.costed.graph.name,
            tokens=self.tokens,
            seq=self.seq,
            batch_tokens=self.batch_tokens,
            recompute=self.recompute,
            hardware=self.profile.described(),
            params=self.all_params,
            flops_per_token=per_token,
            total_flops=per_token * self.tokens,
            parameter_bytes=kept[0],
            gradient_bytes=kept[1],
            optimizer_bytes=kept[2],
            gathered_bytes=gathered,
            activation_bytes=activation,
            reserve_bytes=self.profile.reserve_bytes,
            peak_bytes=sum(kept) + gathered + activation + self.profile.reserve_bytes,
            memory_bytes=self.profile.memory_bytes,
            micro_batches=micro,
            step_s=step_s,
            steps=steps,
            days=steps * step_s / 86400,
            tokens_per_s=self.batch_tokens / step_s,
            mfu=plain * self.batch_tokens / (step_s * devices * self.profile.peak_flops["bf16"]),
        )

    @property
    def all_params(self) -> int:
        return self.costed.params() + self.costed.params(mtp=True)

    @property
    def forward(self) -> dict[str, Any]:
        """One sequence forward, logits at every position."""
        return {"batch": 1, "tokens": self.seq, "context": self.seq, "logits": self.seq}

    def uses(self, group: Group) -> int:
        """How often a step runs a group's op: the output projection once more for every MTP step."""
        return len(group.nodes) * (1 + self.costed.graph.mtp_steps if group.cost.at_logits else 1)

    def passes(self, group: Group, again: bool) -> int:
        """Forward passes that a training step on a group takes, the backward pass counted as so many."""
        return 1 + BACKWARD + (again and bool(group.nodes[0].block))

    # -- arithmetic and time -------------------------------------------------------------------------------------------

    def flops_per_token(self, again: bool) -> int:
        """FLOPs of a training step on one token, with the recomputed forward passes if `again`."""
        env = {**self.costed.env, **self.forward}
        each = [self.uses(g) * self.passes(g, again) * g.evaluate(env, "flops")[0] for g in self.costed.groups]
        return math.ceil(Fraction(sum(each)) / self.seq)

    def micro_s(self) -> float:
        """Seconds of one sequence on every device: compute, or the parameters' travel where that is longer."""
        one, n = dataclasses.replace(self.profile, devices=1), self.profile.devices
        env = {**self.costed.env, **hardware_env(one, self.costed.formats), **self.forward}
        compute = sum(self.uses(g) * self.group_s(g, env) for g in self.costed.groups)
        if n == 1:
            return compute
        travel = (2 * PARAMETER_BYTES + GRADIENT_BYTES) * self.all_params * (n - 1) / n
        return max(compute, travel / self.profile.link_bytes_s)

    def group_s(self, group: Group, env: Mapping[str, Any]) -> float:
        """Seconds of a node forward and backward, and forward again where that is recomputed."""
        again = self.recompute == "block" and bool(group.nodes[0].block)
        both, forward = self.timing(group, "train"), self.timing(group, "prefill")
        times = {**env, **group.sizes}
        if both is None:
            return (1 + BACKWARD + again) * float(call_s(group.cost, forward).evaluate(times))
        return float((call_s(group.cost, both) + again * call_s(group.cost, forward)).evaluate(times))

    def timing(self, group: Group, mode: Mode) -> OpTiming | None:
        """The measured law of a group's op, if the profile has one."""
        return self.profile.timing(self.costed.formats["weights"], mode, group.nodes[0].op.kind)

    def update_s(self, shard: int) -> float:
        """Seconds of the optimiser: as measured, or its state read and written, gradients read, parameters written."""
        law = self.profile.timing(self.costed.formats["weights"], "train", OPTIMIZER)
        if law is not None and self.profile.devices == 1:
            each = [math.prod(p.shape) for _, p in self.costed.graph.params() if p.trained]
            size = float(get_format(self.costed.formats["weights"]).bytes_per_element)
            return len(each) * law.overhead_s + sum(each) * size * law.weights_moved
        return shard * (2 * OPTIMIZER_BYTES + GRADIENT_BYTES + PARAMETER_BYTES) / self.profile.bytes_per_s

    # -- memory --------------------------------------------------------------------------------------------------------

    def gathered_bytes(self) -> int:
        """The parameters of the two largest blocks, whole."""
        sizes: dict[tuple[str, str], int] = {}
        for node, param in self.costed.graph.params():
            key = (node.region, node.block or node.id)
            sizes[key] = sizes.get(key, 0) + math.prod(param.shape)
        return PARAMETER_BYTES * sum(sorted(sizes.values())[-2:]) if self.profile.devices > 1 else 0

    def activation_bytes(self) -> int:
        """What one sequence's backward pass needs: values kept, and those of one block or of the logits."""
        streams, whole = 0, dict[str, int]()
        sizes = self._elements
        for node in self.costed.graph.nodes:
            output, inside = sizes[node.id]
            block = node.block or node.id
            streams += output if node.id in self._block_outputs else 0
            whole[block] = whole.get(block, 0) + output + inside
        # Twice the largest: its values and their gradients.
        elements = 2 * max(whole.values()) + (streams if self.recompute == "block" else sum(whole.values()))
        return math.ceil(self.seq * elements * get_format(self.costed.formats["activations"]).bytes_per_element)

    @property
    def _block_outputs(self) -> set[str]:
        """The last node of every block."""
        return set({n.block: n.id for n in self.costed.graph.nodes if n.block}.values())

    @property
    def _elements(self) -> dict[str, tuple[int, int]]:
        """Elements of every node's output and of its values inside, for one position."""
        env = {**self.costed.env, **self.forward}
        return {n.id: tuple(g.evaluate(env, "output", "inside")) for g in self.costed.groups for n in g.nodes}


def shard_elements(param: Param, devices: int) -> int:
    """Elements of a parameter on the device that has most of them."""
    return sum(_shard(axes, devices) for axes in _pieces(param.axes))


def _pieces(axes: tuple[Axis, ...]) -> Iterator[tuple[Axis, ...]]:
    """The parameter's axes once for every combination of pieces of its Concats."""
    if not axes:
        yield ()
        return
    first = [part for _, part in axes[0].parts] if isinstance(axes[0], Concat) else [axes[0]]
    for part in first:
        for rest in _pieces(axes[1:]):
            yield (part, *rest)


def _shard(axes: tuple[Axis, ...], devices: int) -> int:
    elements = math.prod(a.size for a in axes)
    free: Iterable[Dim] = (d for a in axes for d in a.dims() if d.within is None)
    return min((elements // d.size * math.ceil(d.size / devices) for d in free), default=elements)
