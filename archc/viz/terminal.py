"""A model at a glance on a terminal: colours where it has them, letters always, 80 columns at least."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archc.terminal import console, plain_table
from archc.units import format_count, format_params, format_size
from archc.viz.colours import colour
from archc.viz.drawing import wrapped
from archc.viz.layers import Layer, Strip, Variant, number_list
from archc.viz.summary import STATE_AT, Kind, Summary

INDENT = " " * 5  # the width of a layer's number and the gap after it
MOST_CELLS = 60
MOST_VARIANTS = 12


def print_summary(summary: Summary) -> None:
    """Layers, a table of kinds of block, totals and state; then the overlays."""
    out = console()
    counts = f"  {format_params(summary.params.total)} parameters, {len(summary.layers.layers)} layers"
    out.print(Text.assemble((summary.name, "bold"), counts))
    if summary.layers.layers:
        out.print()
        _print_layers(out, summary.layers)
    if summary.mtp.layers:
        steps = f"{summary.mtp_steps} step{'s' if summary.mtp_steps > 1 else ''}"
        out.print(f"\nmulti-token prediction, {steps}")
        _print_layers(out, summary.mtp)
    out.print()
    out.print(_kinds(summary))
    out.print()
    for line in _totals(summary):
        out.print(line)
    _print_overlays(out, summary)


def _print_overlays(out: Console, summary: Summary) -> None:
    if summary.overlays:
        from archc.viz.terminal_overlay import print_overlay

        for rows in summary.overlays:
            print_overlay(out, rows)


# -- layers ------------------------------------------------------------------------------------------------------------


def _print_layers(out: Console, of: Strip) -> None:
    """The strip, the same folded, what the letters mean, and where the few and the different layers are."""
    for cells in _cells(out, of.layers):
        out.print(cells)
    if of.folded != " ".join(layer.mark for layer in of.layers):
        out.print(wrapped(of.folded, out.width, INDENT), markup=False)
    out.print(Text.assemble(INDENT, *_legend(of)))
    for kind, layers in of.few():
        out.print(wrapped(f"{kind} in {_where(layers, ', '.join(map(str, layers)))}", out.width, INDENT))
    for line in _variants(of.variants):
        out.print(wrapped(line, out.width, INDENT), markup=False)


def _cells(out: Console, layers: tuple[Layer, ...]) -> Iterator[Text]:
    """A cell for each layer, so many to a line that the first of every line is a round number."""
    widest = max(len(layer.mark) for layer in layers)
    cell = widest if widest == 1 else widest + 1
    fit = min(MOST_CELLS, (out.width - len(INDENT)) // cell)
    per_line = fit // 10 * 10 or max(fit, 1)
    for start in range(0, len(layers), per_line):
        line = Text.assemble((f"{start:>3}  ", "dim"))
        for layer in layers[start : start + per_line]:
            line.append(layer.mark.ljust(cell), _style(layer.kind))
        yield line


def _legend(of: Strip) -> Iterator[str | tuple[str, str]]:
    for i, (letter, kind) in enumerate(of.letters.items()):
        yield "   " if i else ""
        yield letter, _style(kind)
        yield f" {kind}"


def _style(kind: str) -> str:
    """The style of a kind; of several kinds in one block, that of the first."""
    paint = colour(kind.partition(" ")[0])
    return f"{paint.ink} on {paint.fill}"


def _variants(variants: tuple[Variant, ...]) -> Iterator[str]:
    for variant in variants[:MOST_VARIANTS]:
        where = _where(variant.layers, number_list(variant.layers))
        than = "usually" if variant.usual else f"layer {variant.than}:"
        yield f"{variant.mark} in {where}: {', '.join(_change(than, *change) for change in variant.changes)}"
    if len(variants) > MOST_VARIANTS:
        yield f"and {len(variants) - MOST_VARIANTS} more that differ; --json lists them"


def _where(layers: tuple[int, ...], listed: str) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {listed}"


def _change(than: str, what: str, here: str, there: str) -> str:
    if not there:
        return f"{what}={here}"
    return f"{what}={here} ({than} {there})" if here else f"no {what} ({than} {there})"


# -- kinds and totals --------------------------------------------------------------------------------------------------


def _kinds(summary: Summary) -> Table:
    numbers = ("count", "each", "params", "share")
    table = plain_table(" ", "kind", *numbers, "sizes", numbers=numbers, whole=(" ", "kind", *numbers))
    for kind in summary.kinds:
        if kind.params:
            share = "" if kind.mtp else f"{kind.params * kind.count / summary.params.total:.1%}"
            name = f"{kind.kind} (MTP)" if kind.mtp else kind.kind
            table.add_row(kind.letter, name, *_counts(kind), share, _sizes(kind))
    return table


def _counts(kind: Kind) -> tuple[str, str, str]:
    return str(kind.count), format_params(kind.params), format_params(kind.params * kind.count)


def _sizes(kind: Kind) -> str:
    return " ".join(f"{name}={value}" for name, value in kind.told)


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
    growing, fixed = format_size(summary.state_bytes_per_token), format_size(summary.state_bytes_fixed)
    yield f"state of a sequence at {format_count(STATE_AT)}: {growing} a token and {fixed} fixed"
