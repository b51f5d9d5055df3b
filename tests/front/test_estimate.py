"""`archc estimate` and `archc.sheet`: known answers, options, JSON and what people read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archc.hardware import load_hardware
from archc.ir.cost_program import cost_program
from archc.ir.expr import evaluate_json
from archc.ir.workload import Workload
from archc.kernels.errors import UnknownName, UnsupportedError
from archc.resolve import load
from archc.sheet import cost, training_cost
from archc.units import format_size

GIB = 2**30
A10G_BUDGET = 19.66 * GIB


def archc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archc", "estimate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def estimated(*arguments: str) -> Any:
    run = archc(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


# -- known answers -----------------------------------------------------------------------------------------------------


def test_nano_9b_fits_its_budget_at_128k_and_12b_does_not() -> None:
    nine, twelve = (cost(f"nemotron-nano-{n}b-v2", context="128k", batch=1, format="bf16") for n in (9, 12))
    assert nine.memory.resident_bytes <= A10G_BUDGET < twelve.memory.resident_bytes


def test_nemotron_h_47b_in_4_bits_at_a_million_tokens() -> None:
    formats = {"format": "int4", "kv_format": "fp8", "ssm_format": "bf16", "conv_format": "bf16"}
    smaller = cost("nemotron-h-47b", context=1_000_000, **formats)  # type: ignore[arg-type]
    larger = cost("nemotron-h-56b", context=1_000_000, **formats)  # type: ignore[arg-type]
    assert smaller.memory.resident_bytes / GIB == pytest.approx(31.68, abs=0.005)
    assert larger.memory.resident_bytes > 31.7 * GIB


def test_super_120b() -> None:
    sheet = cost("nemotron-3-super-120b-a12b", context=262144, conv_format="fp32")
    assert sheet.params.total == 120_668_707_840
    assert sheet.params.active == 12_770_237_440
    assert sheet.params.mtp == 2_942_325_248
    assert sheet.memory.kv_bytes == 8192 * 262144
    assert sheet.memory.ssm_bytes == 160 * 2**20
    assert sheet.memory.conv_bytes == 40 * 120 * 1024


@pytest.mark.parametrize(
    ("model", "total", "active_without_embedding"),
    [
        ("nemotron-h-8b", 8.101e9, 7.564e9),
        ("nemotron-h-56b", 56.324e9, None),
        ("nemotron-nano-12b-v2", 12.310e9, None),
        ("nemotron-3-nano-30b-a3b", 31.578e9, 3.228e9),
        ("nemotron-3-ultra-550b-a55b", 549.31e9, 54.99e9),
        ("llama-3.1-8b", 8.030e9, None),
        ("qwen3-30b-a3b", 30.532e9, None),
        ("gpt-oss-20b", 20.915e9, 3.608e9),
        ("gpt-oss-120b", 116.829e9, 5.133e9),
        ("mamba2-2.7b", 2.7026e9, 2.7026e9),
    ],
)
def test_parameter_counts(model: str, total: float, active_without_embedding: float | None) -> None:
    params = cost(model).params
    assert params.total == pytest.approx(total, rel=2e-4)
    if active_without_embedding is not None:
        assert params.active_without_embedding == pytest.approx(active_without_embedding, rel=4e-4)


def test_tied_embedding_stays_active() -> None:
    params = cost("mamba2-2.7b").params
    assert params.active_without_embedding == params.active == params.total


def test_own_formats_of_parameters_hold_until_one_is_asked_for() -> None:
    own, bf16 = cost("gpt-oss-20b"), cost("gpt-oss-20b", format="bf16")
    assert bf16.memory.weights_bytes == 2 * bf16.params.total
    assert 13.5e9 < own.memory.weights_bytes < 14e9  # about 12.8 GiB, as the checkpoint is


# -- workload and hardware ---------------------------------------------------------------------------------------------


def test_context_is_input_and_output_together() -> None:
    sheet = cost("tiny-hybrid", input="8k", output="16k", hardware="a10g")
    assert sheet.workload.context == 24 * 1024
    assert sheet.throughput is not None and sheet.throughput.batch == sheet.throughput.max_batch
    given = cost("tiny-hybrid", input="8k", output="16k", hardware="a10g", batch=8)
    assert given.throughput is not None and given.throughput.batch == 8
    assert given.throughput.max_batch == sheet.throughput.max_batch
    with pytest.raises(UnsupportedError, match="input \\+ output"):
        cost("tiny-hybrid", context="8k", input="8k", output="16k")


def test_unknown_names_are_suggested() -> None:
    with pytest.raises(UnknownName, match="a10g"):
        cost("tiny-hybrid", hardware="a10gg")
    with pytest.raises(UnknownName, match="fp8"):
        cost("tiny-hybrid", kv_format="fp8_e4m33")


def test_training_a_12b_model() -> None:
    sheet = training_cost("nemotron-nano-12b-v2", hardware="64xh100", tokens="25T", seq=8192, batch_tokens="4M")
    forward = cost("nemotron-nano-12b-v2", context=8192).flops.prefill / 8192  # but for logits
    assert 4 * forward < sheet.flops_per_token < 4.2 * forward
    assert sheet.fits and sheet.micro_batches == 8
    assert sheet.days == pytest.approx(sheet.steps * sheet.step_s / 86400)
    assert 12 * sheet.params / 64 <= sheet.optimizer_bytes < 12.1 * sheet.params / 64


def test_a_candidate_around_12b_costs_the_same_in_ints_arrays_tensors_and_json() -> None:
    graph = load("nemotron-nano-12b-v2")
    widths = [name for name in graph.dims if name.rpartition(".")[2] in ("d_model", "d_ff", "heads_per_group")]
    blocks, workload = graph.blocks["layers"], Workload.of(context=131072)
    program = cost_program(graph, varying=widths, droppable=blocks, workload=workload, profile=load_hardware("a10g"))
    rng = np.random.default_rng(0)
    some = {name: int(graph.dims[name].size * rng.uniform(0.5, 1)) for name in widths}
    some |= {f"keep.{block}": int(rng.random() < 0.9) for block in blocks}
    exact, data = program(some), json.loads(json.dumps(program.to_json()))
    arrays = program({name: np.full(2, float(value)) for name, value in some.items()})
    tensors = program({name: torch.tensor(float(value), dtype=torch.float64) for name, value in some.items()})
    for name, value in exact.items():
        as_json = evaluate_json(data["figures"][name], {**data["defaults"], **some})
        for other in (float(arrays[name][1]), float(tensors[name]), as_json):
            assert other == pytest.approx(float(value), rel=1e-12), name


# -- the command -------------------------------------------------------------------------------------------------------

CONTRACT = {
    "params": ["total", "active", "active_without_embedding", "mtp"],
    "memory": ["weights_bytes", "kv_bytes", "ssm_bytes", "conv_bytes",
               "resident_bytes", "activation_bytes", "peak_bytes"],
    "flops": ["prefill", "decode_per_token"],
    "latency": ["prefill_s", "decode_s_per_token"],
    "throughput": ["max_batch", "output_tokens_per_s"],
}  # fmt: skip


def test_json_has_every_figure() -> None:
    data = estimated("nemotron-nano-9b-v2", "--hardware", "4xh100", "--context", "128k", "--batch", "2", "--explain")
    for section, names in CONTRACT.items():
        assert all(isinstance(data[section][name], int | float) for name in names), section
    exact = [data[section][name] for section in ("params", "memory", "flops") for name in CONTRACT[section]]
    assert all(isinstance(value, int) for value in exact)
    assert data["hardware"]["reserve_bytes"] > 0 and data["hardware"]["matmul_efficiency"]["bf16"] == 0.45
    assert sum(node["count"] * node["weights_bytes"] for node in data["nodes"]) == data["memory"]["weights_bytes"]


def test_json_without_hardware_has_no_times() -> None:
    data = estimated("nemotron-nano-9b-v2", "--format", "fp8", "--kv-format", "fp8", "--ssm-format", "bf16")
    assert data["latency"] == {"prefill_s": None, "decode_s_per_token": None}
    assert data["memory"]["weights_bytes"] == data["params"]["total"]
    assert data["memory"]["peak_bytes"] == data["memory"]["resident_bytes"] + data["memory"]["activation_bytes"]


def test_no_mtp_leaves_it_out_of_memory() -> None:
    whole, without = estimated("tiny-hybrid"), estimated("tiny-hybrid", "--no-mtp")
    assert whole["memory"]["weights_bytes"] - without["memory"]["weights_bytes"] == 2 * whole["params"]["mtp"] > 0


def test_people_see_the_figures_and_what_they_stand_on() -> None:
    arguments = ["--hardware", "4xh100", "--input", "8k", "--output", "16k", "--explain"]
    shown = archc("nemotron-3-super-120b-a12b", *arguments).stdout
    for text in ("120.67B", "fits 316.44 GiB", "tokens/s", "0.45", "450 GB/s", "latent_moe", "ssm fp32"):
        assert text in shown
    assert "give --hardware" in archc("tiny-dense").stdout


def test_training_from_the_command_line() -> None:
    arguments = ["--train", "--tokens", "25T", "--hardware", "64xh100", "--seq", "8192", "--batch-tokens", "4M"]
    data = estimated("nemotron-nano-12b-v2", *arguments)
    assert data["tokens"] == 25 * 10**12 and data["batch_tokens"] == 2**22 and data["days"] > 0
    assert "986" in archc("nemotron-nano-12b-v2", *arguments).stdout
    assert archc("nemotron-nano-12b-v2", "--train").returncode == 2


def test_the_table_of_training_has_the_figures_of_its_json() -> None:
    arguments = ["nemotron-h-8b", "--train", "--tokens", "15T", "--hardware", "64xh100"]
    data, shown = estimated(*arguments), archc(*arguments).stdout
    figures = [
        format_size(data[f"{name}_bytes"]) for name in ("parameter", "optimizer", "activation", "peak", "memory")
    ]
    figures += [f"{data['days']:,.1f} days", f"{data['steps']:,} steps", f"{data['flops_per_token'] / 1e9:,.1f} GFLOP"]
    assert data["fits"] and not [figure for figure in figures if figure not in shown]
    assert "forward again" not in archc(*arguments, "--recompute", "none").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--context 128q", "128q"),
        ("--batch 0", "`batch` must be at least 1"),
        ("--hardware h10", "did you mean `h100`"),
        ("--kv-format fp9", "did you mean `fp8`"),
        ("--seq 8k", "--seq: only of training"),
        ("--train --tokens 1T --hardware h100 --no-mtp", "--mtp/--no-mtp: only of serving"),
        ("--train --tokens 1T", "--train needs --tokens"),
        ("--train --tokens 0 --hardware h100", "`tokens` must be at least 1"),
        ("--train --tokens 1T --hardware h100 --seq 0", "`seq` must be at least 1"),
        ("--train --tokens 1T --hardware 64xh100 --batch-tokens 8k", "fewer sequences"),
        ("--contxt 4k", "--context"),
    ],
)
def test_a_bad_option_is_one_clear_error(arguments: str, message: str) -> None:
    run = archc("tiny-hybrid", *arguments.split())
    assert run.returncode == 2 and run.stdout == ""
    assert message in " ".join(run.stderr.replace("│", " ").split())
    assert "Traceback" not in run.stderr


def test_an_error_is_one_message() -> None:
    run = archc("nemotron-nano-9b-v2", "--context", "128q")
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and "128q" in run.stderr


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("title: Mine\nmemory: 16GiB\nbandwidth_gb_s: 50\npeak_tflops: {bf16: 1.5}\n")
    data = estimated("tiny-dense", "--hardware", str(file))
    assert data["hardware"]["name"] == "mine" and data["latency"]["prefill_s"] > 0


def test_estimate_does_not_load_torch() -> None:
    code = "import sys; sys.argv = ['archc', 'estimate', 'tiny-hybrid', '--hardware', 'a10g']\n"
    code += "from archc.cli import main\ntry:\n    main()\nexcept SystemExit: pass\n"
    code += "print('loaded:', *(m for m in ('torch', 'networkx', 'numpy', 'optuna') if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1].strip() == "loaded:"
