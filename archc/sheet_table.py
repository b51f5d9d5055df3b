"""Cost sheets as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    if sheet.hardware is not None and _unmeasured(sheet.hardware, sheet.formats["weights"]):
        formats = " and ".join(sheet.hardware["measured"])
        out.print(f"[yellow]measured in {formats} only: these times leave overheads out; try --format[/yellow]")
    for table in _node_tables(sheet.nodes) if explain else ():
        out.print(table)


def print_training(sheet: TrainSheet) -> None:
    """The figures of a training sheet."""
    out = console()
    plan = f"{format_tokens(sheet.tokens)} tokens, {format_count(sheet.batch_tokens)} a step"
    out.print(f"[bold]{sheet.model}[/bold]  training on {plan} in sequences of {format_count(sheet.seq)}")
    out.print(_table(_training(sheet)))
    for line in _hardware(sheet.hardware, together="parameters sharded over all, sequences of their own (FSDP)"):
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
    if memory.mtp_state_bytes:
        yield "  state of drafts", format_size(memory.mtp_state_bytes), "while drafting (MTP), not in the above"
    chunk = f"one call of at most {format_count(sheet.workload.prefill_chunk)} tokens"
    yield "activations", format_size(memory.activation_bytes), chunk
    if sheet.hardware is not None:
        yield "reserve", format_size(memory.reserve_bytes), ""
    yield "peak", format_size(memory.peak_bytes), _room(sheet)


def _room(sheet: CostSheet) -> str:
    if sheet.hardware is None:
        return ""
    total = sheet.hardware["memory_bytes"] * sheet.hardware["devices"]
    return _fits(sheet.memory.peak_bytes <= total, total)


def _flops(sheet: CostSheet) -> Iterator[Row]:
    yield "prefill", format_flops(sheet.flops.prefill), f"{format_count(sheet.workload.input)} tokens"
    yield "decode", format_flops(sheet.flops.decode_per_token), "one step"
    if sheet.flops.mtp_per_token:
        yield "draft (MTP)", format_flops(sheet.flops.mtp_per_token), "all its steps once, not in the above"


def _times(sheet: CostSheet) -> Iterator[Row]:
    if sheet.latency is None or sheet.throughput is None:
        return
    yield "prefill time", format_seconds(sheet.latency.prefill_s), ""
    yield "decode time", format_seconds(sheet.latency.decode_s_per_token), "one step"
    largest = sheet.throughput.max_batch
    yield "largest batch", "any" if largest is None else str(largest), "whose peak fits"
    rate = sheet.throughput.output_tokens_per_s
    how = "prefill and decode" if sheet.workload.output else "decode alone"
    yield "output", "-" if rate is None else f"{rate:,.1f} tokens/s", f"at batch {sheet.throughput.batch}, {how}"


def _training(sheet: TrainSheet) -> list[Row]:
    again = ", blocks forward again" if sheet.recompute == "block" else ""
    return [
        ("parameters", format_params(sheet.params), f"{sheet.params:,}"),
        ("FLOPs of a token", format_flops(sheet.flops_per_token), f"forward, backward{again}"),
        ("FLOPs in all", f"{sheet.total_flops:.3e}", ""),
        ("memory of a device", "", ""),
        ("  parameters", format_size(sheet.parameter_bytes), "bf16, its shard"),
        ("  gradients", format_size(sheet.gradient_bytes), "bf16, its shard"),
        ("  optimiser", format_size(sheet.optimizer_bytes), "fp32 copy and two moments, its shard"),
        ("  gathered", format_size(sheet.gathered_bytes), "the two largest blocks whole"),
        ("  activations", format_size(sheet.activation_bytes), "one sequence"),
        ("  reserve", format_size(sheet.reserve_bytes), ""),
        ("  peak", format_size(sheet.peak_bytes), _fits(sheet.fits, sheet.memory_bytes)),
        ("step", format_seconds(sheet.step_s), f"{sheet.micro_batches:,} sequences a device"),
        ("rate", f"{sheet.tokens_per_s:,.0f} tokens/s", f"{sheet.mfu:.0%} of the bf16 peak without recompute"),
        ("time", f"{sheet.days:,.1f} days", f"{sheet.steps:,} steps"),
    ]


def _fits(fits: bool, memory_bytes: int) -> str:
    return f"{'fits' if fits else 'does not fit'} {format_size(memory_bytes)}"


def _hardware(hardware: dict[str, Any] | None, *, together: str = "") -> Iterator[str]:
    """What the times were computed with."""
    if hardware is None:
        yield "latency and throughput: give --hardware"
        return
    yield f"hardware: {hardware['devices']} x {hardware['name']}, {format_size(hardware['memory_bytes'])} each"
    yield f"  dense TFLOP/s: {_grouped({f: rate / 1e12 for f, rate in hardware['peak_flops'].items()})}"
    yield f"    of which products reach {_grouped(hardware['matmul_efficiency'])}"
    bandwidth = hardware["bandwidth_bytes_s"] / 1e9
    yield f"  {bandwidth:g} GB/s, of which streaming reaches {hardware['memory_efficiency']:g}"
    if hardware["measured"]:
        yield f"  ops in {', '.join(hardware['measured'])}: by laws measured on the device"
    if hardware["devices"] > 1:
        yield f"  {together or 'tensor parallel, one all-reduce a block'}"
        yield f"  links of {hardware['link_bytes_s'] / 1e9:g} GB/s and {hardware['link_latency_s'] * 1e6:g} us"


def _unmeasured(hardware: dict[str, Any], weights: str) -> bool:
    """Whether a measured device was not measured in the format of the weights."""
    return bool(hardware["measured"]) and weights not in hardware["measured"]


def _grouped(by_format: dict[str, float]) -> str:
    """`bf16, fp16 70; int8 140`: the formats of each figure together, or the figure alone where all have it."""
    groups: dict[float, list[str]] = {}
    for fmt, figure in by_format.items():
        groups.setdefault(figure, []).append(fmt)
    if len(groups) == 1:
        return f"{next(iter(groups)):g}"
    return "; ".join(f"{', '.join(formats)} {figure:g}" for figure, formats in groups.items())


# -- node by node ------------------------------------------------------------------------------------------------------

MEMORY = ("params", "weights", "state", "moved by a step")
WORK = ("prefill", "its time", "decode step", "time of step")


def _node_tables(nodes: tuple[NodeCost, ...]) -> Iterator[Table]:
    """What nodes there are, and of one of each: what it holds and moves, what it computes and how long that takes."""
    yield _titled(
        "Nodes, by the first of their kind",
        plain_table("node", "nodes", "kind", "sizes", numbers=("nodes",), whole=("node", "kind")),
        map(_what, nodes),
    )
    yield _titled(
        "Memory of one, for the whole batch", plain_table("node", *MEMORY, numbers=MEMORY), map(_memory_of, nodes)
    )
    yield _titled(
        "Work of one, for the whole batch", plain_table("node", *WORK, "bound by", numbers=WORK), map(_work_of, nodes)
    )


def _titled(title: str, table: Table, rows: Iterable[tuple[str, ...]]) -> Table:
    table.title, table.title_justify = f"\n{title}", "left"
    for row in rows:
        table.add_row(*row)
    return table


def _what(node: NodeCost) -> tuple[str, ...]:
    sizes = " ".join(f"{role}={size}" for role, size in node.sizes if role != "d_model")
    return node.nodes[0], str(node.count), f"[cyan]{node.kind}[/cyan]", f"[dim]{sizes}[/dim]"


def _memory_of(node: NodeCost) -> tuple[str, ...]:
    sizes = (node.weights_bytes, node.state_bytes, node.moved_bytes)
    return node.nodes[0], format_params(node.params), *map(format_size, sizes)


def _work_of(node: NodeCost) -> tuple[str, ...]:
    prefill = format_flops(node.prefill_flops), _timed(node.prefill_s)
    return node.nodes[0], *prefill, format_flops(node.decode_flops), _timed(node.decode_s), node.bound


def _timed(seconds: float | None) -> str:
    return "-" if seconds is None else format_seconds(seconds)


def format_flops(flops: int) -> str:
    """FLOPs in T, G or M."""
    unit, scale = next(((u, s) for u, s in (("T", 1e12), ("G", 1e9)) if flops >= s), ("M", 1e6))
    return f"{flops / scale:,.1f} {unit}FLOP" if flops else "0"


def format_seconds(seconds: float) -> str:
    """A time in s, ms, us or ns."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
