"""Costs: counted against real tensors, closed forms against search, and the four kinds of number against each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from archc.ir.build import MTP, build_model
from archc.ir.capacity import max_batch
from archc.ir.cost import cost_sheet, decode_env, prefill_calls
from archc.ir.cost_graph import Costed, LiveSet
from archc.ir.cost_op import op_cost
from archc.ir.cost_program import CostProgram, cost_program
from archc.ir.cost_train import shard_elements, train_sheet
from archc.ir.expr import evaluate_json
from archc.ir.graph import Graph
from archc.ir.hardware import HardwareProfile
from archc.ir.init import init_weights
from archc.ir.op import registered_ops
from archc.ir.ops.attention import Attention, Rope
from archc.ir.ops.latent_moe import LatentMoE
from archc.ir.ops.mamba2 import Mamba2
from archc.ir.ops.mlp import MLP
from archc.ir.ops.moe import MoE
from archc.ir.workload import FormatChoice, Workload, bytes_env
from archc.kernels.errors import UnknownName, UnsupportedError

DEVICE = HardwareProfile(
    name="device",
    memory_bytes=2**26,
    peak_flops={"bf16": 1e12, "fp8": 2e12},
    bandwidth_bytes_s=1e10,
    reserve_bytes=2**20,
    link_bytes_s=1e9,
    link_latency_s=1e-6,
)

BLOCKS: tuple[tuple[str, Any], ...] = (
    ("mamba2", Mamba2.Fields(n_heads=12, head_dim=8, d_state=16, n_groups=2)),
    ("mlp", MLP.Fields(d_ff=96, activation="relu2")),
    ("attention", Attention.Fields(n_heads=6, head_dim=8, n_kv_heads=2)),
    ("moe", MoE.Fields(experts=8, top_k=2, d_ff=24, shared_d_ff=40, gated=True)),
    ("attention", Attention.Fields(n_heads=6, head_dim=8, n_kv_heads=2, window=5)),
    ("latent_moe", LatentMoE.Fields(experts=6, top_k=3, d_ff=24, latent=16)),
    ("mlp", MLP.Fields(d_ff=64)),
)


def model(*, tied: bool = False, mtp_steps: int = 0, layers: tuple[tuple[str, Any], ...] = BLOCKS) -> Graph:
    mtp = MTP(layers=[BLOCKS[2], BLOCKS[3]], steps=mtp_steps) if mtp_steps else None
    return build_model(name="m", d_model=32, vocab=101, layers=layers, tied=tied, mtp=mtp)


# -- parameters and memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_the_tensors(tied: bool) -> None:
    graph = model(tied=tied, mtp_steps=2)
    tensors = {key: w.numel() for key, w in init_weights(graph).items()}
    mtp = sum(n for key, n in tensors.items() if key.startswith("mtp"))
    params = cost_sheet(graph, context=64).params
    assert params.mtp == mtp
    assert params.total == sum(tensors.values()) - mtp
    embedding = 0 if tied else 32 * 101
    assert params.active - params.active_without_embedding == embedding
    routed = 6 * 3 * 24 * 32 + 3 * 2 * 24 * 16  # experts that one token does not meet
    assert params.total - params.active == routed


def test_mtp_is_in_memory_once_however_often_it_is_used_and_can_be_left_out() -> None:
    once, thrice = model(mtp_steps=1), model(mtp_steps=3)
    one, three = cost_sheet(once, context=64), cost_sheet(thrice, context=64)
    assert three.memory.mtp_state_bytes == 3 * one.memory.mtp_state_bytes > 0
    assert replace(one.memory, mtp_state_bytes=0) == replace(three.memory, mtp_state_bytes=0)
    assert one.params == three.params
    assert three.flops.mtp_per_token == 3 * one.flops.mtp_per_token > 2 * 32 * 101  # the output projection is in it
    assert three.flops.prefill == cost_sheet(model(), context=64).flops.prefill
    without = cost_sheet(once, context=64, mtp=False)
    assert one.memory.weights_bytes - without.memory.weights_bytes == 2 * one.params.mtp
    assert without.memory == cost_sheet(model(), context=64).memory


def test_formats_apply_by_class() -> None:
    graph = model()
    plain = cost_sheet(graph, context=64)
    small = cost_sheet(graph, context=64, format="int4", kv_format="fp8", ssm_format="bf16", conv_format="fp32")
    assert small.memory.weights_bytes == math.ceil(plain.params.total / 2)
    assert 2 * small.memory.kv_bytes == plain.memory.kv_bytes
    assert 2 * small.memory.ssm_bytes == plain.memory.ssm_bytes
    assert small.memory.conv_bytes == 2 * plain.memory.conv_bytes
    with pytest.raises(UnknownName, match="fp8"):
        cost_sheet(graph, context=64, kv_format="fp9")


def test_state_by_hand() -> None:
    memory = cost_sheet(model(), context=64, batch=3).memory
    assert memory.kv_bytes == 3 * (2 * 2 * 8 * 2) * (64 + 5)  # one full attention, one that sees five tokens
    assert memory.ssm_bytes == 3 * 12 * 8 * 16 * 4
    assert memory.conv_bytes == 3 * (12 * 8 + 2 * 2 * 16) * 3 * 2


def test_activations_by_hand() -> None:
    layers = (("mlp", MLP.Fields(d_ff=500, activation="relu2")),)
    graph = model(layers=layers)
    found = cost_sheet(graph, context=64, prefill_chunk=16).memory.activation_bytes
    # residual, norm's output, up-projection and its activation, result: for 16 tokens in bf16
    assert found == 16 * (32 + 32 + 2 * 500 + 32) * 2
    whole = cost_sheet(graph, context=64, batch=100, prefill_chunk=16).memory.activation_bytes
    assert whole == 100 * (32 + 32 + 2 * 500 + 32) * 2  # a decode step has more tokens than the chunk


def test_logits_are_of_last_positions_only() -> None:
    graph = build_model(name="m", d_model=8, vocab=5000, layers=[("mlp", MLP.Fields(d_ff=9))])
    assert cost_sheet(graph, context=64, batch=2).memory.activation_bytes == (128 * 8 + 2 * 5000) * 2


@pytest.mark.parametrize("room", [0, 999, 5_000, 20_000, 65_536, 10**6])
@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
@pytest.mark.parametrize("state", [0, 3, 517])
def test_the_largest_batch_is_the_last_that_fits(room: int, chunk: int, state: int) -> None:
    workload = Workload.of(input=11, output=3, prefill_chunk=chunk)
    live = (LiveSet(4, 0), LiveSet(3, 90))

    def fits(batch: int) -> bool:
        tokens = workload.call_tokens(batch)
        return batch * state + max(s.token_bytes * tokens + s.logits_bytes * batch for s in live) <= room

    found = max_batch(room, state, live, workload)
    assert found is not None
    assert found == 0 or fits(found)
    assert not fits(found + 1)


def test_peak_at_the_largest_batch_fits_and_one_more_does_not() -> None:
    graph = model()
    largest = cost_sheet(graph, DEVICE, input=200, output=50).throughput
    assert largest is not None and largest.max_batch is not None and largest.max_batch > 1
    assert largest.batch == largest.max_batch
    peaks = [
        cost_sheet(graph, DEVICE, input=200, output=50, batch=largest.max_batch + i).memory.peak_bytes for i in (0, 1)
    ]
    assert peaks[0] <= DEVICE.memory_bytes < peaks[1]


# -- flops and time ----------------------------------------------------------------------------------------------------


def test_decode_flops_add_up_to_those_of_prefill() -> None:
    graph = model(layers=BLOCKS[1:4])  # the SSD's chunked form counts more than its recurrence
    steps = sum(cost_sheet(graph, context=n).flops.decode_per_token for n in range(1, 18))
    head = 2 * 32 * 101
    assert cost_sheet(graph, context=17).flops.prefill == steps - 16 * head


def test_figures_are_of_the_batch() -> None:
    one, four = (cost_sheet(model(), DEVICE, context=64, batch=b) for b in (1, 4))
    assert four.flops.prefill == 4 * one.flops.prefill
    assert four.flops.decode_per_token == 4 * one.flops.decode_per_token
    assert one.latency and four.latency
    assert one.latency.decode_s_per_token < four.latency.decode_s_per_token < 4 * one.latency.decode_s_per_token


@pytest.mark.parametrize(("length", "batch", "chunk"), [(64, 1, 16), (64, 3, 16), (10, 5, 32), (7, 2, 1000)])
def test_prefill_calls_cover_the_input(length: int, batch: int, chunk: int) -> None:
    calls, mean = prefill_calls(Workload.of(input=length, prefill_chunk=chunk), batch)
    assert calls * mean["batch"] * mean["tokens"] == pytest.approx(length * batch)
    assert mean["batch"] * mean["tokens"] <= chunk


def test_mean_calls_have_the_flops_of_the_whole_prefill() -> None:
    graph, workload = model(layers=BLOCKS[:4]), Workload.of(input=96, prefill_chunk=16)
    costed = Costed(graph, FormatChoice())
    calls, mean = prefill_calls(workload, 2)
    by_calls = calls * costed.sum("flops", {**mean, "logits": 0}, lambda g: True)
    whole = 2 * costed.sum("flops", {"tokens": 96, "context": 96, "logits": 0}, lambda g: True)
    assert by_calls > 0.8 * whole  # the SSD's chunks are as long as calls here, so its part is smaller
    attention = next(n.op for n in graph.nodes if n.op.kind == "attention")
    flops = op_cost(attention).flops
    sizes = {role: d.size for role, d in attention.dims.items()}
    assert calls * mean["batch"] * flops.evaluate({**sizes, **mean}) == 2 * flops.evaluate(
        {**sizes, "tokens": 96, "context": 96}
    )


def test_a_larger_batch_reads_more_experts_up_to_all() -> None:
    op = next(iter(MoE.examples()))
    cost = op_cost(op)
    env: dict[str, Any] = {role: d.size for role, d in op.dims.items()} | bytes_env(FormatChoice().of(model()))
    read = [cost.weights_moved.evaluate({**env, **decode_env(b, 1)}) for b in (1, 2, 10**6)]
    stored = cost.weight_bytes.evaluate(env)
    assert cost.active.evaluate(env) * 2 == read[0] < read[1] < read[2]
    assert read[2] == pytest.approx(stored)


def test_several_devices_share_the_work_and_pay_for_their_links() -> None:
    one, four = (cost_sheet(model(), DEVICE.times(n), context=64) for n in (1, 4))
    assert one.latency and four.latency and four.throughput and one.throughput
    assert four.memory.reserve_bytes == 4 * one.memory.reserve_bytes
    assert four.latency.decode_s_per_token > one.latency.decode_s_per_token / 4
    reduces = [n.kind for n in four.nodes if op_cost(_op(model(), n.nodes[0])).reduces]
    assert set(reduces) == {"mamba2", "mlp", "attention", "moe", "latent_moe"}


def _op(graph: Graph, node: str) -> Any:
    return graph.node(node).op


def test_rate_without_output_is_that_of_steps_alone() -> None:
    sheet = cost_sheet(model(), DEVICE, context=64, batch=2)
    assert sheet.latency and sheet.throughput
    assert sheet.throughput.output_tokens_per_s == pytest.approx(2 / sheet.latency.decode_s_per_token)


def test_rate_counts_prefill_and_decode() -> None:
    sheet = cost_sheet(model(), DEVICE, input=64, output=1, batch=2)
    assert sheet.latency and sheet.throughput
    whole = sheet.latency.prefill_s + sheet.latency.decode_s_per_token
    assert sheet.throughput.output_tokens_per_s == pytest.approx(2 / whole)


@pytest.mark.parametrize(
    "given",
    [{"context": 0}, {"context": 10, "input": 11}, {"context": 10, "input": 4, "output": 4}, {"input": 5, "batch": 0}],
)
def test_workloads_that_do_not_add_up(given: Mapping[str, int]) -> None:
    with pytest.raises(UnsupportedError):
        Workload.of(**given)


def test_nodes_add_up_to_the_sheet() -> None:
    sheet = cost_sheet(model(mtp_steps=2), DEVICE, context=64, batch=2)
    served = [n for n in sheet.nodes if not n.mtp]
    assert sum(n.count * n.weights_bytes for n in sheet.nodes) == sheet.memory.weights_bytes
    assert sum(n.count * n.prefill_flops for n in served) == sheet.flops.prefill
    assert sum(n.count * n.decode_flops for n in served) == sheet.flops.decode_per_token
    assert sheet.latency is not None
    assert sum(n.count * (n.decode_s or 0) for n in served) == pytest.approx(sheet.latency.decode_s_per_token)
    assert sum(n.count * n.state_bytes for n in sheet.nodes) == sheet.memory.resident_bytes - sheet.memory.weights_bytes


def test_tables_are_counted_where_an_op_has_them() -> None:
    plain, rotary = (Attention.Fields(n_heads=2, head_dim=8, rope=rope) for rope in (None, Rope()))
    tables = [op_cost(_op(model(layers=(("attention", f),)), "L0.mixer")).tables for f in (plain, rotary)]
    assert [t.evaluate({}) for t in tables] == [0, 2]


@pytest.mark.parametrize("op", [e for cls in registered_ops() for e in cls.examples()], ids=lambda op: op.kind)
def test_every_op_has_a_cost(op: Any) -> None:
    env = {role: d.size for role, d in op.dims.items()} | {f"rate.{c}": 1e9 for c in ("weights", "activations")}
    env |= bytes_env(FormatChoice().of(model())) | {"batch": 2, "tokens": 9, "context": 20, "logits": 1}
    cost = op_cost(op)
    assert cost.params.evaluate(env) == sum(math.prod(p.shape) for p in op.params())
    assert cost.flops.evaluate(env) >= 0 and cost.bytes_moved.evaluate(env) > 0
    assert cost is op_cost(op)


# -- the same expressions on four kinds of number ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> CostProgram:
    graph = model(mtp_steps=1)
    varying = ["d_model", "L0.mixer.heads_per_group", "L1.mixer.d_ff", "L2.mixer.queries_per_kv", "L3.mixer.experts"]
    workload = Workload.of(input=60, output=40, prefill_chunk=16, batch=3)
    return cost_program(graph, varying=varying, droppable=graph.blocks["layers"], workload=workload, profile=DEVICE)


CANDIDATE = {"d_model": 24, "L1.mixer.d_ff": 71, "L3.mixer.experts": 5, "keep.L0": 0, "keep.L6": 0}


def test_the_program_agrees_with_the_sheet(program: CostProgram) -> None:
    sheet = cost_sheet(model(mtp_steps=1), DEVICE, input=60, output=40, prefill_chunk=16, batch=3)
    assert sheet.latency is not None
    found = program()
    memory = {f"{name}_bytes": getattr(sheet.memory, f"{name}_bytes") for name in
              ("weights", "kv", "ssm", "conv", "resident", "activation", "peak")}  # fmt: skip
    exact = {"params_total": sheet.params.total, "params_active": sheet.params.active, **memory,
             "decode_flops": sheet.flops.decode_per_token}  # fmt: skip
    assert {name: found[name] for name in exact} == exact
    assert found["decode_s"] == pytest.approx(sheet.latency.decode_s_per_token, rel=1e-12)
    assert found["prefill_s"] == pytest.approx(sheet.latency.prefill_s, rel=1e-12)


def test_a_candidate_is_the_sheet_of_its_graph(program: CostProgram) -> None:
    layers = (("mlp", MLP.Fields(d_ff=71, activation="relu2")), BLOCKS[2],
              ("moe", MoE.Fields(experts=5, top_k=2, d_ff=24, shared_d_ff=40, gated=True)), *BLOCKS[4:6])  # fmt: skip
    mtp = MTP(layers=[BLOCKS[2], BLOCKS[3]])
    graph = build_model(name="m", d_model=24, vocab=101, layers=layers, mtp=mtp)
    sheet = cost_sheet(graph, DEVICE, input=60, output=40, prefill_chunk=16, batch=3)
    found = program(CANDIDATE)
    assert found["params_total"] == sheet.params.total
    assert found["params_active"] == sheet.params.active
    assert found["peak_bytes"] == sheet.memory.peak_bytes
    assert sheet.latency and found["decode_s"] == pytest.approx(sheet.latency.decode_s_per_token, rel=1e-12)


@pytest.mark.parametrize(
    "made",
    [lambda v: np.full(3, float(v)), lambda v: torch.tensor(float(v), dtype=torch.float64)],
    ids=["numpy", "torch"],
)
def test_kinds_of_number_agree(program: CostProgram, made: Callable[[float], Any]) -> None:
    exact = program(CANDIDATE)
    found = program({name: made(value) for name, value in CANDIDATE.items()})
    for name, value in exact.items():
        assert np.allclose(np.asarray(found[name], dtype=float), float(value), rtol=1e-12, atol=0), name


def test_json_agrees(program: CostProgram) -> None:
    data = json.loads(json.dumps(program.to_json()))
    env = {**data["defaults"], **CANDIDATE}
    for name, value in program(CANDIDATE).items():
        assert evaluate_json(data["figures"][name], env) == pytest.approx(float(value), rel=1e-12), name


def test_tensors_have_gradients(program: CostProgram) -> None:
    width = torch.tensor(80.0, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    found = program({"L1.mixer.d_ff": width, "keep.L2": keep})
    params, time = (
        torch.autograd.grad(found[f], (width, keep), retain_graph=True) for f in ("params_total", "decode_s")
    )
    assert params[0] == 2 * 32 and params[1] > 0
    assert time[0] > 0 and time[1] > 0
    assert torch.autograd.grad(found["resident_bytes"], width)[0] == 2 * 2 * 32


def test_dims_of_one_size_share_a_symbol() -> None:
    layers = (*BLOCKS, ("mlp", MLP.Fields(d_ff=96, activation="relu2")))
    graph, workload = model(layers=layers), Workload.of(context=64, batch=3)
    first, second = "L1.mixer.d_ff", "L7.mixer.d_ff"
    blocks = graph.blocks["layers"]
    apart = cost_program(graph, varying=[first, second], droppable=blocks, workload=workload, profile=DEVICE)
    shared = cost_program(
        graph, varying={first: first, second: first}, droppable=blocks, workload=workload, profile=DEVICE
    )
    assert set(apart.symbols) - set(shared.symbols) == {second}
    for kept in (1, 0):
        wanted = apart({first: 71, second: 71, "keep.L1": kept, "keep.L4": 0})
        found = shared({first: 71, "keep.L1": kept, "keep.L4": 0})
        times = {"decode_s", "prefill_s"}
        assert {k: v for k, v in found.items() if k not in times} == {k: wanted[k] for k in wanted if k not in times}
        assert all(found[k] == pytest.approx(wanted[k], rel=1e-12) for k in times)
    with pytest.raises(UnknownName, match=r"L9\.mixer"):
        cost_program(graph, varying={first: "L9.mixer.d_ff"}, workload=workload)


def test_the_program_knows_what_may_vary(program: CostProgram) -> None:
    with pytest.raises(UnknownName, match=r"L1\.mixer\.d_ff"):
        program({"L1.mixer.dff": 3})
    with pytest.raises(UnknownName, match="block"):
        cost_program(model(), droppable=["L99"], workload=Workload.of())


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_flops_are_three_forward_passes_and_one_more() -> None:
    graph = model(layers=(BLOCKS[1],))
    plan: dict[str, Any] = {"tokens": 10**6, "seq": 64, "batch_tokens": 1024}
    plain, again = (train_sheet(graph, DEVICE, **plan, recompute=r) for r in ("none", "block"))
    mlp, head = 2 * 2 * 32 * 96, 2 * 32 * 101
    assert plain.flops_per_token == 3 * (mlp + head)
    assert again.flops_per_token == 4 * mlp + 3 * head
    assert again.activation_bytes < plain.activation_bytes
    assert again.step_s > plain.step_s
    assert plain.steps == math.ceil(10**6 / 1024)


def test_training_counts_the_head_for_every_mtp_step() -> None:
    plan: dict[str, Any] = {"tokens": 10**6, "seq": 64, "batch_tokens": 1024, "recompute": "none"}
    one, two, three = (train_sheet(model(mtp_steps=n), DEVICE, **plan).flops_per_token for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one, abs=1)
    assert two - one > 3 * 2 * 32 * 101


def test_training_memory_is_shared_out() -> None:
    graph = model()
    plan: dict[str, Any] = {"tokens": 10**6, "seq": 64, "batch_tokens": 4096}
    one, eight = (train_sheet(graph, DEVICE.times(n), **plan) for n in (1, 8))
    total = cost_sheet(graph, context=64).params.total
    assert one.parameter_bytes == 2 * total and one.optimizer_bytes == 12 * total and one.gathered_bytes == 0
    assert total / 8 <= eight.parameter_bytes / 2 <= total / 4
    assert eight.micro_batches * 8 == one.micro_batches
    with pytest.raises(UnsupportedError, match="sequences"):
        train_sheet(graph, DEVICE.times(8), tokens=10**6, seq=1024, batch_tokens=4096)


def test_shards_follow_the_dims() -> None:
    op = Mamba2.make(BLOCKS[0][1], _maker())
    sizes = {p.name: (math.prod(p.shape), shard_elements(p, 4)) for p in op.params()}
    assert sizes["out_proj"] == (32 * 96, 32 * 96 // 4)  # along d_model or head_dim
    assert sizes["A_log"] == (12, 6)  # heads lie within two groups: each group's go together


def _maker() -> Any:
    from archc.ir.dims import Dim
    from archc.ir.op import DimMaker

    return DimMaker("op", {"d_model": Dim("d_model", 32)})
