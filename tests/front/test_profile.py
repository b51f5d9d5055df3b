"""Measuring a machine: laws are recovered, every node is timed, and a written profile is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archc.hardware import HardwareFile, Law, load_hardware
from archc.ir.build import build_model
from archc.ir.cost import cost_sheet
from archc.ir.cost_program import cost_program
from archc.ir.cost_train import train_sheet
from archc.ir.graph import Graph
from archc.ir.hardware import OpTiming
from archc.ir.latency import TIMED
from archc.ir.ops.attention import Attention
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.workload import Workload
from archc.kernels.errors import ArchcError
from archc.profile.fit import fit
from archc.profile.measure import Sample, emitted_model, laws, stack_samples
from archc.profile.stacks import WIDTHS, stacks
from archc.profile.timing import Call
from archc.profile.write import write_profile

CPU = torch.device("cpu")


def small() -> Graph:
    blocks = [
        ("mamba2", Mamba2.Fields(n_heads=2, head_dim=8, d_state=8)),
        ("attention", Attention.Fields(n_heads=2, head_dim=8)),
        ("mlp", MLP.Fields(d_ff=16)),
    ]
    formats = [("weights", "fp32"), ("activations", "fp32")]
    return build_model(name="small", d_model=16, vocab=31, layers=blocks, formats=formats)


def profile_file(**modes: dict[str, Law]) -> HardwareFile:
    given = {"title": "Mine", "memory": 2**30, "bandwidth_gb_s": 10, "peak_tflops": {"bf16": 1, "fp32": 0.5}}
    return HardwareFile.model_validate({**given, "measured": {"fp32": modes}})


def test_a_law_is_recovered_from_its_times() -> None:
    rng = np.random.default_rng(0)
    law = OpTiming(overhead_s=2e-5, weight_flops=1e-11, state_moved=3e-10)
    rows = [{name: float(10 ** rng.uniform(5, 8)) for name in TIMED} for _ in range(20)]
    seconds = [law.overhead_s + sum(getattr(law, name) * row[name] for name in TIMED) for row in rows]
    found = fit(rows, seconds)
    for name in ("overhead_s", *TIMED):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-6, abs=1e-15)


def test_no_part_of_a_law_is_negative() -> None:
    rows = [dict.fromkeys(TIMED, 0.0) | {"weight_flops": x} for x in (1e6, 2e6, 3e6)]
    found = fit(rows, [3e-3, 2e-3, 1e-3])
    assert found.weight_flops == 0 and found.overhead_s > 0


def test_every_node_is_timed_in_every_mode() -> None:
    graph = small()
    calls = [Call("prefill", 1, 6, 6), Call("decode", 2, 1, 9), Call("train", 2, 6, 6)]
    samples = list(stack_samples(graph, emitted_model(graph, CPU, "fp32"), "fp32", calls))
    kinds = {node.op.kind for node in graph.nodes}
    for mode in ("prefill", "decode", "train"):
        assert {s.kind for s in samples if s.mode == mode} - {"optimizer"} == kinds
    assert all(s.seconds > 0 for s in samples)
    found = laws(samples)
    assert set(found["train"]) == {*kinds, "optimizer"}


def test_stacks_cover_the_kinds_of_ops_of_models() -> None:
    graphs = stacks()
    assert [g.dims["d_model"].size for g in graphs] == list(WIDTHS)
    assert {n.op.kind for n in graphs[0].nodes} >= {"mamba2", "attention", "mlp", "moe", "latent_moe", "rms_norm"}


def test_a_profile_is_written_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ArchcError, match="archc profile"):
        load_hardware("local")
    law = Law.of(OpTiming(overhead_s=1.5e-5, weight_flops=2e-11, weights_moved=1e-10))
    write_profile(profile_file(decode={"mlp": law}), tmp_path / "archc" / "local.yaml")
    found = load_hardware("local")
    assert found.name == "local" and found.memory_bytes == 2**30
    timing = found.timing("fp32", "decode", "mlp")
    assert timing is not None
    assert (timing.overhead_s, timing.weight_flops) == pytest.approx((1.5e-5, 2e-11))
    assert found.timing("bf16", "decode", "mlp") is None and found.timing("fp32", "train", "mlp") is None


def test_measured_laws_replace_the_roofline(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    slow = Law(overhead_us=1e6)
    write_profile(profile_file(prefill={"mlp": slow}, decode={"mlp": slow}, train={"mlp": slow}), file)
    profile, graph = load_hardware(str(file)), small()
    sheet = cost_sheet(graph, profile, context=32)
    assert sheet.latency is not None
    assert sheet.latency.decode_s_per_token == pytest.approx(1, rel=0.01)
    assert {n.bound for n in sheet.nodes if n.kind == "mlp"} == {"overhead"}
    program = cost_program(graph, workload=Workload.of(context=32), profile=profile)
    assert program()["decode_s"] == pytest.approx(sheet.latency.decode_s_per_token, rel=1e-12)
    plan = {"tokens": 64, "seq": 32, "batch_tokens": 64}
    both, again = (train_sheet(graph, profile, **plan, recompute=r, format="fp32") for r in ("none", "block"))  # type: ignore[arg-type]
    assert both.step_s == pytest.approx(2, rel=0.01) and again.step_s == pytest.approx(4, rel=0.01)


def test_samples_of_a_kind_make_one_law() -> None:
    rows = [dict.fromkeys(TIMED, 0.0) | {"weights_moved": x} for x in (1e6, 2e6)]
    made = laws(Sample("decode", "mlp", row, 1e-5 + 1e-10 * row["weights_moved"]) for row in rows)
    assert made["decode"]["mlp"].overhead_us == pytest.approx(10)
    assert made["decode"]["mlp"].us_per_weight_mb == pytest.approx(100)
