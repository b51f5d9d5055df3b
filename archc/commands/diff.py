"""`archc diff`: what differs between two models, and what each difference costs or saves."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.ir.diff import Diff

# Option -> the function of a diff that makes the file's text.
PICTURES = {"html": "archc.viz.diff_page:diff_page", "svg": "archc.viz.diff_picture:diff_picture"}
FILE = "FILE"
Out = Path | None


def diff(
    models: Annotated[list[str], typer.Argument(metavar="A B", help="Two models: specs, zoo names, checkpoints, ...")],
    hardware: Annotated[str | None, typer.Option(help="a10g, 4xh100, or a profile YAML of your own.")] = None,
    context: Annotated[str | None, typer.Option(help="Tokens of a sequence; else input + output, else 8k.")] = None,
    batch: Annotated[str | None, typer.Option(help="Sequences; 1.")] = None,
    input: Annotated[str | None, typer.Option(help="Tokens to prefill; the context when not given.")] = None,
    output: Annotated[str | None, typer.Option(help="Tokens to decode.")] = None,
    format: Annotated[str | None, typer.Option(help="Format of every parameter; else each model's own.")] = None,
    kv_format: Annotated[str | None, typer.Option(help="Format of keys and values; as the weights', or bf16.")] = None,
    ssm_format: Annotated[str | None, typer.Option(help="Format of the SSM state; fp32.")] = None,
    conv_format: Annotated[str | None, typer.Option(help="Format of the convolution state; likewise.")] = None,
    prefill_chunk: Annotated[str, typer.Option(help="The most tokens of one prefill call.")] = "2048",
    mtp: Annotated[bool, typer.Option(help="Keep multi-token prediction in memory.")] = True,
    html: Annotated[Out, typer.Option(metavar=FILE, help="Write a page: both models side by side.")] = None,
    svg: Annotated[Out, typer.Option(metavar=FILE, help="Write a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    git_driver: Annotated[bool, typer.Option("--git-driver", help="Be git's diff driver.")] = False,
) -> None:
    """What differs between two models in words, the cost of both, and each difference's share of it.

    Exit status: 0 the same, 1 different, 2 trouble. A FILE of `-` is standard output. For git to show models so:
    `*.ir diff=archc` in .gitattributes, and `git config diff.archc.command "archc diff --git-driver"`.
    """
    if git_driver:
        from archc.gitdriver import run_git_driver

        run_git_driver(models)
        return
    if len(models) != 2:
        raise typer.BadParameter(f"expected two models, got {len(models)}: {' '.join(models)}")
    from archc.comparison import diff as compare

    found = compare(
        *models,
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
    drawn = {name: out for name, out in {"html": html, "svg": svg}.items() if out is not None}
    if drawn:
        _draw(found, drawn)
    else:
        _print(found, as_json)
    raise typer.Exit(1 if found else 0)


def _draw(found: Diff, files: Mapping[str, Path]) -> None:
    """Make every picture before any is written."""
    from archc.outfile import write_whole

    made = {out: _picture(name)(found) for name, out in files.items()}
    for out, text in made.items():
        write_whole(out, text)
        if str(out) != "-":
            typer.echo(f"wrote {out}", err=True)


def _picture(name: str) -> Any:
    module, _, function = PICTURES[name].partition(":")
    return getattr(importlib.import_module(module), function)


def _print(found: Diff, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    from archc.diff_table import print_diff

    print_diff(found)
