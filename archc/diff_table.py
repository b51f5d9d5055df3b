"""A diff for a terminal: what changed in words, the cost before and after, and each change's share of it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archc.sheet_table import format_flops, format_seconds
from archc.terminal import console, plain_table
from archc.units import format_count, format_params, format_size

if TYPE_CHECKING:
    from archc.hub.compare import WeightsDiff
    from archc.ir.cost_sheet import CostSheet
    from archc.ir.diff import Diff
    from archc.ir.diff_cost import Effect

Number = int | float


@dataclass(frozen=True)
class Figure:
    """A figure of the waterfall: its name there, what people call it, how it is written, and in a column's head."""

    name: str
    label: str
    written: Callable[[Number], str]
    short: str = ""


def _flops(number: Number) -> str:
    return format_flops(int(number))


FIGURES = (
    Figure("params", "parameters", format_params, "parameters"),
    Figure("params_active", "  active", format_params, "active"),
    Figure("params_mtp", "  multi-token prediction", format_params),
    Figure("weights_bytes", "weights", format_size),
    Figure("state_bytes", "state (KV, SSM, conv)", format_size),
    Figure("resident_bytes", "resident", format_size, "resident"),
    Figure("prefill_flops", "prefill", _flops),
    Figure("decode_flops", "decode, one step", _flops, "decode"),
    Figure("prefill_s", "prefill time", format_seconds),
    Figure("decode_s", "decode time", format_seconds, "decode time"),
)


def print_diff(found: Diff, *, same: str = "no difference") -> None:
    """The whole diff; `same` says that there is none."""
    out = console()
    out.print(Text.assemble((found.a.name, "bold"), " -> ", (found.b.name, "bold")))
    if not found:
        out.print(same)
        return
    out.print()
    _print_changes(out, found)
    out.print()
    out.print(_costs(found.effect))
    if len(found.changes) > 1:
        _print_shares(out, found.effect)
    else:
        out.print()
    out.print(Text(told(found), style="dim"))


def print_weights(compared: WeightsDiff) -> None:
    """What became of the weights."""
    out = console()
    out.print()
    for i, line in enumerate(compared.words()):
        out.print(Text.assemble(("weights  " if i == 0 else "         ", "cyan"), line))


def _print_changes(out: Console, found: Diff) -> None:
    """Every change in words, numbered."""
    width = len(str(len(found.changes)))
    for i, change in enumerate(found.changes, 1):
        lines = textwrap.wrap(change.words, out.width - width - 2) or [""]
        out.print(Text.assemble((f"{i:>{width}}  ", "dim"), f"\n{' ' * (width + 2)}".join(lines)))


def told(found: Diff) -> str:
    """How layers were paired and what the figures are of."""
    load = found.effect.a.workload
    paired = {"lineage": "by ids, which passes kept", "structure": "by structure", "evidence": "by weights"}
    workload = f"batch {load.sequences}, context {format_count(load.context)}"
    hardware = found.effect.a.hardware
    on = f"on {hardware['devices']} x {hardware['name']}" if hardware else "no hardware, so no times"
    return f"layers paired {paired[found.alignment.by]}; {workload}; {on}"


# -- cost --------------------------------------------------------------------------------------------------------------


def _costs(effect: Effect) -> Table:
    """Every figure of A and of B."""
    table = plain_table("cost", "A", "B", "difference", "%", numbers=("A", "B", "difference", "%"), whole=("cost",))
    for label, written, a, b in _figures(effect):
        table.add_row(Text(label, style="cyan"), written(a), written(b), signed(written, b - a), _percent(a, b))
    return table


def _figures(effect: Effect) -> Iterator[tuple[str, Callable[[Number], str], Number, Number]]:
    for figure in FIGURES:
        if tells(effect, figure):
            yield figure.label, figure.written, effect.first[figure.name], effect.last[figure.name]
        if figure.name == "resident_bytes":
            yield from ((label, format_size, *each) for label, each in maxima(effect.a, effect.b))


def maxima(a: CostSheet, b: CostSheet) -> Iterator[tuple[str, tuple[int, int]]]:
    yield "activations", (a.memory.activation_bytes, b.memory.activation_bytes)
    yield "peak", (a.memory.peak_bytes, b.memory.peak_bytes)


def tells(effect: Effect, figure: Figure) -> bool:
    """Whether a figure is there and says more than another."""
    ends = (effect.first, effect.last)
    if figure.name == "params_active":
        return any(end["params_active"] != end["params"] for end in ends)
    return figure.name in effect.first and any(end[figure.name] for end in ends)


def _print_shares(out: Console, effect: Effect) -> None:
    """What each change adds to the main figures, by its number."""
    shown = [figure for figure in FIGURES if figure.short and tells(effect, figure)]
    heads = [figure.short for figure in shown]
    table = plain_table("share of", *heads, numbers=("share of", *heads))
    for i, stage in enumerate(effect.stages, 1):
        if any(stage.added[figure.name] for figure in shown):
            table.add_row(Text(str(i), style="dim"), *(signed(f.written, stage.added[f.name]) for f in shown))
    together = (signed(f.written, effect.last[f.name] - effect.first[f.name]) for f in shown)
    table.add_row("all", *together)
    out.print()
    out.print(table)
    out.print()


def signed(written: Callable[[Number], str], number: Number) -> str:
    """A difference with its sign; nothing is `0`."""
    return f"{'-' if number < 0 else '+'}{written(abs(number))}" if number else "0"


def _percent(a: Number, b: Number) -> str:
    return f"{100 * (b - a) / a:+.1f}%" if a else "new"
