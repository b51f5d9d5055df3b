"""Predicted against measured times of six models of different shape: `python benchmarks/latency.py`.

The machine is measured first (as `archc profile` does; `--profile FILE` takes a profile made before). Then each model
is compiled, and its prefill, decode and training step (forward, loss, backward, AdamW) are timed beside what
`archc.ir.cost` predicts. None of the six was part of the measurement. Times are the least of several runs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from archc.hardware import load_hardware
from archc.ir.build import build_model
from archc.ir.cost import cost_sheet
from archc.ir.cost_train import train_sheet
from archc.ir.graph import Graph
from archc.ir.hardware import HardwareProfile
from archc.ir.ops.attention import Attention, Rope
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.ops.moe import MoE
from archc.profile.measure import emitted_model, measure
from archc.profile.timing import Call, best_whole, whole_call
from archc.profile.write import write_profile

TOKENS = 256
MODES = ("prefill", "decode", "train")
WITHIN, ROUNDS = 1.25, 5

Block = tuple[str, Any]


def mamba(n_heads: int) -> Block:
    """A Mamba-2 block with heads of 32 channels."""
    return "mamba2", Mamba2.Fields(n_heads=n_heads, head_dim=32, d_state=64, n_groups=2, chunk=64)


def attention(n_heads: int, n_kv_heads: int, head_dim: int = 64) -> Block:
    """Rotary attention."""
    return "attention", Attention.Fields(n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=head_dim, rope=Rope())


def mlp(d_ff: int, *, gated: bool = False) -> Block:
    """A gated or squared-ReLU feed-forward block."""
    return "mlp", MLP.Fields(d_ff=d_ff, activation="silu" if gated else "relu2", gated=gated)


def moe() -> Block:
    """Twelve experts, three a token, and a shared one."""
    fields = MoE.Fields(experts=12, top_k=3, d_ff=320, shared_d_ff=640, activation="relu2", router="sigmoid")
    return "moe", fields


MODELS: dict[str, tuple[int, list[Block]]] = {
    "dense hybrid": (256, [mamba(16), mlp(1024), mamba(16), mlp(1024), attention(4, 2), mlp(1024), mamba(16)]),
    "attention only": (320, [attention(5, 5), mlp(864, gated=True)] * 4),
    "mamba only": (288, [mamba(18)] * 8),
    "mixture of experts": (224, [mamba(14), moe(), attention(4, 2), moe()] * 2),
    "wide and shallow": (768, [mamba(48), mlp(3072)]),
    "narrow and deep": (96, ([mamba(6), mlp(384)] * 5 + [attention(3, 3, 32), mlp(384)]) * 2),
}


@dataclass(frozen=True)
class Compared:
    """One predicted time beside the measured one."""

    model: str
    mode: str
    predicted_s: float
    measured_s: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_s / self.measured_s

    @property
    def holds(self) -> bool:
        """Whether the two are within the promised factor."""
        return 1 / WITHIN <= self.ratio <= WITHIN


def built(name: str) -> Graph:
    """The graph of one of the six."""
    d_model, layers = MODELS[name]
    formats = [("weights", "fp32"), ("activations", "fp32")]
    return build_model(name=name.replace(" ", "_"), d_model=d_model, vocab=2048, layers=layers, formats=formats)


def predicted(graph: Graph, profile: HardwareProfile) -> dict[str, float]:
    """Seconds of each mode by the cost model."""
    sheet = cost_sheet(graph, profile, context=TOKENS, batch=1)
    plan = {"tokens": TOKENS, "seq": TOKENS, "batch_tokens": TOKENS}
    train = train_sheet(graph, profile, **plan, recompute="none", format="fp32")
    assert sheet.latency is not None
    return {"prefill": sheet.latency.prefill_s, "decode": sheet.latency.decode_s_per_token, "train": train.step_s}


def whole_calls(graph: Graph) -> dict[str, Callable[[], float]]:
    """Calls of the emitted package, which give their seconds, by mode."""
    model, vocab = emitted_model(graph, torch.device("cpu"), "fp32"), graph.dims["vocab"].size
    calls = (Call("prefill", 1, TOKENS, TOKENS), Call("decode", 1, 1, TOKENS), Call("train", 1, TOKENS, TOKENS))
    return {call.mode: whole_call(model, call, vocab) for call in calls}


def measured() -> dict[tuple[str, str], float]:
    """Seconds of every model in every mode, the least of rounds apart in time: others may use the machine too."""
    calls = {(name, mode): call for name in MODELS for mode, call in whole_calls(built(name)).items()}
    rounds = [{key: best_whole(call) for key, call in calls.items()} for _ in range(ROUNDS)]
    return {key: min(times[key] for times in rounds) for key in calls}


def in_order(rows: list[Compared]) -> float:
    """Of all pairs of models in one mode that differ by more than 10%, the part that is predicted in order."""
    pairs = [(a, b) for a in rows for b in rows if a.measured_s > 1.1 * b.measured_s]
    return statistics.mean(a.predicted_s > b.predicted_s for a, b in pairs)


def the_profile(file: str | None) -> HardwareProfile:
    """The profile in `file`, or of this machine, measured now."""
    if file is not None:
        return load_hardware(file)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "measured.yaml"
        write_profile(measure(torch.device("cpu"), "fp32", say=lambda text: print(f"measuring {text}")), made)
        return load_hardware(str(made))


def compared(profile: HardwareProfile) -> Iterator[Compared]:
    """Every model in every mode."""
    found = measured()
    for name in MODELS:
        guess = predicted(built(name), profile)
        for mode in MODES:
            yield Compared(name, mode, guess[mode], found[name, mode])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", help="a YAML that `archc profile` wrote; measured anew when not given")
    parser.add_argument("--threads", type=int, default=1, help="1, timed by the work done, or more by the clock")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    profile = the_profile(options.profile)
    print(f"{TOKENS} tokens, {options.threads} threads")
    print(f"{'':20s}{'':10s}{'predicted':>12s}{'measured':>12s}{'ratio':>8s}")
    rows: list[Compared] = []
    for row in compared(profile):
        rows.append(row)
        times = f"{row.predicted_s * 1e3:9.2f} ms{row.measured_s * 1e3:9.2f} ms"
        print(f"{row.model:20s}{row.mode:10s}{times}{row.ratio:8.2f}{'' if row.holds else '  off'}")
    worst = max(rows, key=lambda row: abs(math.log(row.ratio)))
    print(f"{sum(row.holds for row in rows)} of {len(rows)} within {WITHIN - 1:.0%}, the worst at {worst.ratio:.2f}")
    ordered = {mode: in_order([r for r in rows if r.mode == mode]) for mode in MODES}
    for mode, part in ordered.items():
        print(f"{mode}: {part:.0%} of pairs in the right order")
    sys.exit(not (worst.holds and all(part == 1 for part in ordered.values())))


if __name__ == "__main__":
    main()
