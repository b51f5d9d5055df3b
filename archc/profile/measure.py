"""From stacks to laws: emit each, time its nodes in every kind of call, fit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.hardware import HardwareFile, Law
from archc.ir.cost_op import FORMAT_CLASSES, op_cost
from archc.ir.graph import Graph, Node
from archc.ir.hardware import OPTIMIZER, Mode, OpTiming
from archc.ir.latency import TIMED, per_call
from archc.ir.workload import bytes_env
from archc.profile.fit import fit
from archc.profile.machine import ROUNDS, dtype_of, least_s, matmul_rates, memory_bytes, stream_bytes_s, title
from archc.profile.stacks import stacks
from archc.profile.timing import Call, best_times

CALLS = (
    Call("prefill", 1, 64, 64),
    Call("prefill", 1, 256, 256),
    Call("prefill", 2, 128, 128),
    Call("decode", 1, 1, 64),
    Call("decode", 1, 1, 320),
    Call("decode", 3, 1, 320),
    Call("train", 1, 64, 64),
    Call("train", 1, 256, 256),
    Call("train", 2, 128, 128),
)
SOURCE = "measured by `archc profile`"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """One measured time, and what it was of."""

    mode: Mode
    kind: str
    row: dict[str, float]
    seconds: float


def measure(device: torch.device, fmt: str, *, say: Say = lambda text: None) -> HardwareFile:
    """The profile of a device, its laws for models in a format; takes about two minutes."""
    say("matrix products and streaming")
    rates = matmul_rates(device)
    bandwidth = max(stream_bytes_s(device) for _ in range(ROUNDS))
    samples = least_samples(stacks(), device, fmt, say)
    return HardwareFile.model_validate(
        {
            "title": title(device),
            "memory": memory_bytes(device),
            "bandwidth_gb_s": _round(bandwidth / 1e9),
            "peak_tflops": {name: _round(rate / 1e12) for name, rate in rates.items()},
            "matmul_efficiency": dict.fromkeys(rates, 1.0),
            "memory_efficiency": 1.0,
            "measured": {fmt: laws(samples)},
            "sources": dict.fromkeys(("memory", "bandwidth_gb_s", "peak_tflops", "measured"), SOURCE),
        }
    )


def laws(samples: Iterable[Sample]) -> dict[Mode, dict[str, Law]]:
    """The law of every mode and kind."""
    groups: dict[tuple[Mode, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.mode, sample.kind), []).append(sample)
    found: dict[Mode, dict[str, Law]] = {}
    for (mode, kind), group in groups.items():
        law: OpTiming = fit([s.row for s in group], [s.seconds for s in group])
        found.setdefault(mode, {})[kind] = Law.of(law)
    return found


def least_samples(graphs: Iterable[Graph], device: torch.device, fmt: str, say: Say) -> list[Sample]:
    """The samples of every graph, each the least of its rounds."""
    models = [(graph, emitted_model(graph, device, fmt)) for graph in graphs]
    rounds: list[list[Sample]] = []
    for i in range(ROUNDS):
        rounds.append([])
        for graph, model in models:
            say(f"ops at width {graph.dims['d_model'].size}, round {i + 1} of {ROUNDS}")
            rounds[i] += stack_samples(graph, model, fmt)
    return [min(same, key=lambda s: s.seconds) for same in zip(*rounds, strict=True)]


def stack_samples(graph: Graph, model: Any, fmt: str, calls: Iterable[Call] = CALLS) -> Iterator[Sample]:
    """Times of every node of one graph's emitted model, and of its optimiser."""
    for call in calls:
        times = best_times(graph, model, call)
        for node in graph.nodes:
            yield Sample(call.mode, node.op.kind, _row(node, call, fmt), times[node.id])
    yield from _optimizer_samples(model)


def emitted_model(graph: Graph, device: torch.device, fmt: str) -> Any:
    """The emitted model of a graph with random weights."""
    with tempfile.TemporaryDirectory(prefix="archc-profile-") as folder:
        package = compile_model(graph, Path(folder) / graph.name, seed=0)
        return load_emitted(package, device=str(device), dtype=str(dtype_of(fmt)).removeprefix("torch."))


def _row(node: Node, call: Call, fmt: str) -> dict[str, float]:
    """What the parts of a law are multiplied by for one node in one call."""
    cost, sizes = op_cost(node.op), {role: d.size for role, d in node.op.dims.items()}
    env = {**bytes_env(dict.fromkeys(FORMAT_CLASSES, fmt)), **sizes, **call.env}
    return {name: float(per_call(cost, name).evaluate(env)) for name in TIMED}


def _optimizer_samples(model: Any) -> Iterator[Sample]:
    """Times of AdamW's update by parameter: of all matrices, and of all vectors."""
    device = next(model.parameters()).device
    for chosen in ([p for p in model.parameters() if (p.dim() > 1) == matrices] for matrices in (False, True)):
        for param in chosen:
            param.grad = torch.zeros_like(param)
        seconds = least_s(torch.optim.AdamW(chosen, fused=True).step, device) / len(chosen)
        moved = sum(p.nbytes for p in chosen) / len(chosen)
        yield Sample("train", OPTIMIZER, {**dict.fromkeys(TIMED, 0.0), "weights_moved": moved}, seconds)
        for param in chosen:
            param.grad = None


def _round(number: float) -> float:
    return float(f"{number:.4g}")
