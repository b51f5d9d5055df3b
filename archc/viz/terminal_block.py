"""One layer or one op in full on a terminal of 80 columns or more."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from archc.ir.text_line import value_words
from archc.terminal import console
from archc.units import format_count, format_params, format_size
from archc.viz.block import DimView, OpView, ParamView, ProductView, StateView, View
from archc.viz.colours import colour
from archc.viz.drawing import wrapped

INDENT = "  "
_HEADING = 11  # the width of what stands before a group of lines


def print_view(view: View) -> None:
    """Every op of a view, one after the other, and what overlays say of them."""
    out = console()
    out.print(Text.assemble((view.model, "bold"), f"  {view.title}"))
    for op in view.ops:
        _print_op(out, op, view.context)
    if view.overlays:
        from archc.viz.terminal_overlay import print_overlay

        for rows in view.overlays:
            print_overlay(out, rows)


def _print_op(out: Console, op: OpView, context: int) -> None:
    paint = colour(op.kind)
    letter = (f" {op.letter} ", f"{paint.ink} on {paint.fill}") if op.letter else ""
    gap = " " if op.letter else ""
    named = "" if op.id == op.scope else f"  id {op.id}"
    out.print()
    out.print(Text.assemble(letter, gap, (op.scope, "bold"), f"  {op.kind}{named}"))
    out.print(wrapped(op.about, out.width, INDENT), markup=False)
    for heading, entries in _groups(op, context):
        _print_group(out, heading, entries)


def _print_group(out: Console, heading: str, entries: Sequence[str]) -> None:
    """Lines under a heading that stands before the first; long ones go on further in."""
    before = (INDENT + heading).ljust(_HEADING)
    for entry in entries:
        for line in textwrap.wrap(entry, out.width - _HEADING, subsequent_indent=INDENT, break_on_hyphens=False):
            out.print(Text.assemble((before, "dim"), line))
            before = " " * _HEADING


def _groups(op: OpView, context: int) -> Iterator[tuple[str, list[str]]]:
    if op.reads:
        yield "reads", [", ".join(op.reads)]
    if op.dims:
        yield "dims", [_dim(dim) for dim in op.dims]
    if op.derived:
        yield "sizes", [f"{d.name} = {d.layout} = {d.size}" for d in op.derived]
    if op.attributes:
        shown = (f"{k}={v if isinstance(v, str) else value_words(v)}" for k, v in op.attributes.items())
        yield "settings", [", ".join(shown)]
    if op.params:
        yield "params", list(_params(op))
    if op.state:
        yield "state", [_state(state) for state in op.state]
    if op.products:
        yield "products", [f"FLOPs of a token at a context of {format_count(context)}:", *map(_product, op.products)]


def _dim(dim: DimView) -> str:
    within = f" in each of {dim.rows} {dim.within}" if dim.within else ""
    order = {"pairs": ", moves in pairs", "fixed": ", order fixed"}.get(dim.order, "")
    multiple = f", multiple of {dim.multiple_of}" if dim.multiple_of > 1 else ""
    return f"{dim.role} = {dim.size}{within}{order}{multiple}"


def _params(op: OpView) -> Iterator[str]:
    if op.owner:
        yield f"those of {op.owner}"
    for param in op.params:
        yield f"{param.name}: [{', '.join(param.axes)}]"
        yield INDENT + _figures(param)


def _figures(param: ParamView) -> str:
    shape = " x ".join(map(str, param.shape))
    elements = f" = {format_params(param.elements)}" if len(param.shape) > 1 else ""
    share = f"{param.share:.2%}" if param.share >= 0.0001 else "<0.01%"
    trained = "" if param.trained else ", not trained"
    return f"{shape}{elements}, {param.format}, {format_size(param.bytes)}, {share}{trained}"


def _state(state: StateView) -> str:
    stored = f"for each of {state.tokens} tokens"
    per = {"": "a sequence", "context": "a token"}.get(state.tokens, stored)
    return f"{state.name}: [{', '.join(state.axes)}] {state.format}, {format_size(state.bytes)} {per}"


def _product(product: ProductView) -> str:
    over = f" over {product.contracts}" if product.contracts else ""
    return f"{product.name} {format_params(product.flops_per_token)}{over}"
