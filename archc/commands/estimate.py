"""`archc estimate`: what a model costs in parameters, memory, FLOPs, time, or to train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from archc.ir.cost_sheet import CostSheet
    from archc.ir.cost_train import TrainSheet

Recompute = Literal["block", "none"]


# What is only of serving, and only of training.
SERVING = (
    "context",
    "batch",
    "input",
    "output",
    "kv_format",
    "ssm_format",
    "conv_format",
    "prefill_chunk",
    "mtp",
    "explain",
)
TRAINING = ("tokens", "seq", "batch_tokens", "recompute")


def estimate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json.")],
    hardware: Annotated[str | None, typer.Option(help="a10g, 4xh100, or a profile YAML of your own.")] = None,
    context: Annotated[str | None, typer.Option(help="Tokens of a sequence; else input + output, else 8k.")] = None,
    batch: Annotated[str | None, typer.Option(help="Sequences; 1, and the largest that fits for throughput.")] = None,
    input: Annotated[str | None, typer.Option(help="Tokens to prefill; the context when not given.")] = None,
    output: Annotated[str | None, typer.Option(help="Tokens to decode.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of every parameter; else the model's own, bf16.")] = None,
    kv_format: Annotated[str | None, typer.Option(help="Format of keys and values; as the weights', or bf16.")] = None,
    ssm_format: Annotated[str | None, typer.Option(help="Format of the SSM state; fp32.")] = None,
    conv_format: Annotated[str | None, typer.Option(help="Format of the convolution state; likewise.")] = None,
    prefill_chunk: Annotated[str, typer.Option(help="The most tokens of one prefill call.")] = "2048",
    mtp: Annotated[bool, typer.Option(help="Keep multi-token prediction in memory.")] = True,
    train: Annotated[bool, typer.Option("--train", help="Cost of training; needs --tokens and --hardware.")] = False,
    tokens: Annotated[str | None, typer.Option(help="Training tokens, such as 25T.")] = None,
    seq: Annotated[str, typer.Option(help="Training: tokens of a sequence.")] = "8k",
    batch_tokens: Annotated[str, typer.Option(help="Training: tokens of a step.")] = "4M",
    recompute: Annotated[Recompute, typer.Option(help="Training: what runs again before its backward pass.")] = "block",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also node by node.")] = False,
) -> None:
    """What a model costs: parameters, memory, FLOPs, latency and throughput, or (--train) its training.

    k and M are binary in counts (128k = 131072); training tokens are decimal (25T).
    """
    from archc.sheet import cost, training_cost

    _refuse(ctx, SERVING if train else TRAINING, "of serving, not of training" if train else "of training: add --train")
    if train:
        if tokens is None or hardware is None:
            raise typer.BadParameter("--train needs --tokens (such as 25T) and --hardware (such as 64xh100)")
        _show_training(
            training_cost(
                model,
                hardware=hardware,
                tokens=tokens,
                seq=seq,
                batch_tokens=batch_tokens,
                recompute=recompute,
                format=format or "bf16",
            ),
            as_json,
        )
        return
    sheet = cost(
        model,
        hardware=hardware,
        context=context,
        batch=batch,
        input=input,
        output=output,
        format=format,
        kv_format=kv_format,
        ssm_format=ssm_format,
        conv_format=conv_format,
        prefill_chunk=prefill_chunk,
        mtp=mtp,
    )
    _show(sheet, as_json, explain)


def _refuse(ctx: typer.Context, names: Sequence[str], why: str) -> None:
    """An option that would be ignored is an error."""
    given = ["/".join([*p.opts, *p.secondary_opts]) for p in ctx.command.params if p.name in names and _given(ctx, p)]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: only {why}")


def _given(ctx: typer.Context, param: Any) -> bool:
    source = ctx.get_parameter_source(param.name)
    return source is not None and source.name == "COMMANDLINE"


def _show(sheet: CostSheet, as_json: bool, explain: bool) -> None:
    if as_json:
        typer.echo(json.dumps(sheet.to_json(explain=explain), indent=2))
        return
    from archc.sheet_table import print_sheet

    print_sheet(sheet, explain=explain)


def _show_training(sheet: TrainSheet, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(sheet.to_json(), indent=2))
        return
    from archc.sheet_table import print_training

    print_training(sheet)
