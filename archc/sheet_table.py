"""Cost sheets as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.table import Table

from archc.ir.cost_op import FORMAT_CLASSES
from archc.terminal import console, plain_table
from archc.units import format_count, format_params, format_size, format_tokens

if TYPE_CHECKING:
    from archc.ir.cost_sheet import CostSheet, NodeCost
    from archc.ir.cost_train import TrainSheet

Row = tuple[str, str, str]


def print_sheet(sheet: CostSheet, *, explain: bool = False) -> None:
    """The figures of a sheet, what they were computed with, and with `explain` every kind of node."""
    out = console()
    out.print(f"[bold]{sheet.model}[/bold]  {_workload(sheet)}")
    out.print(_table([*_params(sheet), *_memory(sheet), *_flops(sheet), *_times(sheet)]))
    out.print(f"[dim]formats: {', '.join(f'{name} {sheet.formats[name]}' for name in FORMAT_CLASSES)}[/dim]")
    for line in _hardware(sheet.hardware):
        out.print(f"[dim]{line}[/dim]")
    if explain:
        out.print(_nodes(sheet))


def print_training(sheet: TrainSheet) -> None:
    """The figures of a training sheet."""
    out = console()
    plan = f"{format_tokens(sheet.tokens)} tokens, {format_count(sheet.batch_tokens)} a step"
    how = f"in sequences of {format_count(sheet.seq)}, recompute: {sheet.recompute}"
    out.print(f"[bold]{sheet.model}[/bold]  training on {plan} {how}")
    out.print(_table(_training(sheet)))
    for line in _hardware(sheet.hardware, together="sharded over all, each with sequences of its own (FSDP)"):
        out.print(f"[dim]{line}[/dim]")


def _table(rows: list[Row]) -> Table:
    table = plain_table("", " ", "", numbers=(" ",))
    for name, value, note in rows:
        table.add_row(f"[cyan]{name}[/cyan]", value, f"[dim]{note}[/dim]")
    return table


def _workload(sheet: CostSheet) -> str:
    load = sheet.workload
    parts = [f"batch {load.sequences}", f"context {format_count(load.context)}"]
    if load.output:
        parts.append(f"{format_count(load.input)} in, {format_count(load.output)} out")
    return ", ".join(parts)


def _params(sheet: CostSheet) -> Iterator[Row]:
    params = sheet.params
    yield "parameters", format_params(params.total), f"{params.total:,}"
    if params.active != params.total:
        yield "  active", format_params(params.active), "what one token meets"
    if params.active_without_embedding != params.active:
        yield "  active without embedding", format_params(params.active_without_embedding), ""
    if params.mtp:
        yield "  multi-token prediction", format_params(params.mtp), "not in the above"


def _memory(sheet: CostSheet) -> Iterator[Row]:
    memory = sheet.memory
    yield "weights", format_size(memory.weights_bytes), ""
    for name, size in (("KV", memory.kv_bytes), ("SSM", memory.ssm_bytes), ("conv", memory.conv_bytes)):
        if size:
            yield f"{name} state", format_size(size), ""
    yield "resident", format_size(memory.resident_bytes), f"{memory.resident_bytes:,} bytes"
    chunk = f"one call of at most {format_count(sheet.workload.prefill_chunk)} tokens"
    yield "activations", format_size(memory.activation_bytes), chunk
    if sheet.hardware is not None:
        yield "reserve", format_size(memory.reserve_bytes), ""
    yield "peak", format_size(memory.peak_bytes), _room(sheet)


def _room(sheet: CostSheet) -> str:
    if sheet.hardware is None:
        return ""
    total = sheet.hardware["memory_bytes"] * sheet.hardware["devices"]
    return f"{'fits' if sheet.memory.peak_bytes <= total else 'does not fit'} {format_size(total)}"


def _flops(sheet: CostSheet) -> Iterator[Row]:
    yield "prefill", f"{sheet.flops.prefill / 1e12:,.1f} TFLOP", f"{format_count(sheet.workload.input)} tokens"
    yield "decode", f"{sheet.flops.decode_per_token / 1e9:,.1f} GFLOP", "one step"
    if sheet.flops.mtp_per_token:
        yield "draft (MTP)", f"{sheet.flops.mtp_per_token / 1e9:,.1f} GFLOP", "one step, not in the above"


def _times(sheet: CostSheet) -> Iterator[Row]:
    if sheet.latency is None or sheet.throughput is None:
        return
    yield "prefill time", _seconds(sheet.latency.prefill_s), ""
    yield "decode time", _seconds(sheet.latency.decode_s_per_token), "one step"
    largest = sheet.throughput.max_batch
    yield "largest batch", "any" if largest is None else str(largest), "whose peak fits"
    rate = sheet.throughput.output_tokens_per_s
    how = "prefill and decode" if sheet.workload.output else "decode alone"
    yield "output", "-" if rate is None else f"{rate:,.1f} tokens/s", f"at batch {sheet.throughput.batch}, {how}"


def _training(sheet: TrainSheet) -> list[Row]:
    fits = "fits" if sheet.fits else "does not fit"
    return [
        ("parameters", format_params(sheet.params), f"{sheet.params:,}"),
        ("FLOPs per token", f"{sheet.flops_per_token / 1e9:,.1f} GFLOP", "forward, backward and recompute"),
        ("FLOPs", f"{sheet.total_flops:.3e}", "in all"),
        ("parameters", format_size(sheet.parameter_bytes), "bf16 shard of a device"),
        ("gradients", format_size(sheet.gradient_bytes), "bf16 shard of a device"),
        ("optimiser", format_size(sheet.optimizer_bytes), "fp32 master and two moments, shard of a device"),
        ("gathered", format_size(sheet.gathered_bytes), "two largest blocks whole"),
        ("activations", format_size(sheet.activation_bytes), "one sequence a device"),
        ("reserve", format_size(sheet.reserve_bytes), ""),
        ("peak", format_size(sheet.peak_bytes), f"{fits} {format_size(sheet.memory_bytes)} of a device"),
        ("step", _seconds(sheet.step_s), f"{sheet.micro_batches} sequences a device"),
        ("rate", f"{sheet.tokens_per_s:,.0f} tokens/s", f"{sheet.mfu:.0%} of the bf16 peak without recompute"),
        ("time", f"{sheet.days:,.1f} days", f"{sheet.steps:,} steps"),
    ]


def _hardware(hardware: dict[str, Any] | None, *, together: str = "") -> Iterator[str]:
    """What the times were computed with."""
    if hardware is None:
        yield "latency and throughput: give --hardware"
        return
    rates = ", ".join(f"{fmt} {rate / 1e12:g}" for fmt, rate in hardware["peak_flops"].items())
    efficiency = ", ".join(sorted({f"{part:g}" for part in hardware["matmul_efficiency"].values()}))
    yield f"hardware: {hardware['devices']} x {hardware['name']}, {format_size(hardware['memory_bytes'])} each"
    yield f"  dense TFLOP/s {rates}, of which products reach {efficiency}"
    bandwidth = hardware["bandwidth_bytes_s"] / 1e9
    yield f"  {bandwidth:g} GB/s, of which streaming reaches {hardware['memory_efficiency']:g}"
    if hardware["devices"] > 1:
        link = f"{hardware['link_bytes_s'] / 1e9:g} GB/s and {hardware['link_latency_s'] * 1e6:g} us a link"
        yield f"  devices: {together or 'tensor parallel, one all-reduce a block'}, {link}"


def _nodes(sheet: CostSheet) -> Table:
    numbers = ("nodes", "params", "weights", "state", "prefill", "decode", "moved", "prefill time", "decode time")
    table = plain_table("node", *numbers, "decode bound by", numbers=numbers)
    table.title, table.title_justify = "Node by node: figures of one of each, for the whole batch", "left"
    for node in sheet.nodes:
        table.add_row(*_node(node))
    return table


def _node(node: NodeCost) -> Iterator[str]:
    sizes = " ".join(f"{role}={size}" for role, size in node.sizes if role != "d_model")
    yield f"{node.nodes[0]} [cyan]{node.kind}[/cyan]" + (f"\n  [dim]{sizes}[/dim]" if sizes else "")
    yield str(node.count)
    yield format_params(node.params)
    yield format_size(node.weights_bytes)
    yield format_size(node.state_bytes)
    yield f"{node.prefill_flops / 1e9:,.1f} GFLOP"
    yield f"{node.decode_flops / 1e6:,.1f} MFLOP"
    yield format_size(node.moved_bytes)
    yield "-" if node.prefill_s is None else _seconds(node.prefill_s)
    yield "-" if node.decode_s is None else _seconds(node.decode_s)
    yield node.bound


def _seconds(seconds: float) -> str:
    """A time in s, ms or us."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
