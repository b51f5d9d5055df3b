"""A model at a glance on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from archc.terminal import console, plain_table
from archc.units import format_params, format_size
from archc.viz.summary import Kind, Summary


def print_summary(summary: Summary) -> None:
    """Pattern, a table of kinds of block, totals and state."""
    out = console()
    out.print(f"[bold]{summary.name}[/bold]  {format_params(summary.params.total)} parameters, {summary.layers} layers")
    out.print(summary.pattern, markup=False)
    if summary.mtp_pattern:
        steps = f"{summary.mtp_steps} step{'s' if summary.mtp_steps > 1 else ''}"
        out.print(f"multi-token prediction: {summary.mtp_pattern}, {steps}", markup=False)
    out.print()
    out.print(_kinds(summary))
    out.print()
    for line in _totals(summary):
        out.print(line)


def _kinds(summary: Summary) -> Table:
    total = summary.params.total + summary.params.mtp
    numbers = ("count", "each", "params", "share")
    table = plain_table(" ", "kind", *numbers, "sizes", numbers=numbers)
    for kind in summary.kinds:
        if kind.params:
            share = f"{kind.params * kind.count / total:.1%}"
            table.add_row(kind.letter, kind.kind, *_counts(kind), share, _sizes(kind))
    return table


def _counts(kind: Kind) -> tuple[str, str, str]:
    return str(kind.count), format_params(kind.params), format_params(kind.params * kind.count)


def _sizes(kind: Kind) -> str:
    """The dims of a kind, that of the residual stream left out."""
    return " ".join(f"{role}={size}" for role, size in kind.sizes if role != "d_model")


def _totals(summary: Summary) -> Iterator[str]:
    params = summary.params
    parts = [f"parameters {params.total:,}"]
    if params.active != params.total:
        parts.append(f"active {params.active:,}")
    if params.mtp:
        parts.append(f"multi-token prediction {params.mtp:,} more")
    yield "; ".join(parts)
    beside = ", multi-token prediction included" if params.mtp else ""
    yield f"weights {format_size(summary.weights_bytes)} in {' and '.join(summary.weight_formats)}{beside}"
    growing = sum(kind.count * kind.state_bytes_per_token for kind in summary.kinds)
    fixed = sum(kind.count * kind.state_bytes_fixed for kind in summary.kinds)
    yield f"state of a sequence: {format_size(growing)} a token and {format_size(fixed)} fixed"
