"""`archc diff`: what differs between two models, and what each difference costs or saves."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from archc.hub.compare import WeightsDiff
    from archc.ir.diff import Diff

# Option -> the function of (diff, diff of weights or None) that makes the file's text.
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
    patch: Annotated[Out, typer.Option(metavar=FILE, help="Write a spec that extends A (a spec) and is B.")] = None,
    weights: Annotated[bool, typer.Option(help="Compare weights, where both models have them.")] = True,
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
    from archc.comparison import weighed, without_weights
    from archc.outfile import refuse_beside

    wanted = {"html": html, "svg": svg, "patch": patch}
    files = {name: file for name, file in wanted.items() if file is not None}
    if files:
        refuse_beside(files, {"--json": as_json})
    bare = without_weights(*models) if weights else ()
    both = weighed(*models) if weights and not bare else None
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
        evidence=None if both is None else both.evidence(),
    )
    compared = None if both is None else both.compared(found)
    if files:
        _write(models, found, compared, files)
    else:
        _print(found, compared, bare if len(bare) == 1 else (), as_json)
    same = not found and (compared is None or compared.empty)
    raise typer.Exit(0 if same else 1)


def _patch(a: str, b: str, out: Path) -> str:
    from archc.resolve import load
    from archc.spec.model import spec_from_graph
    from archc.spec.patch import patch_spec

    spec = spec_from_graph(load(b))
    return patch_spec(a, spec, name=spec.name, out=None if str(out) == "-" else out)


def _write(models: Sequence[str], found: Diff, compared: WeightsDiff | None, files: Mapping[str, Path]) -> None:
    """Make every file's text before any is written."""
    from archc.outfile import write_whole

    made = {
        out: _patch(models[0], models[1], out) if name == "patch" else _picture(name)(found, compared)
        for name, out in files.items()
    }
    for out, text in made.items():
        write_whole(out, text)
        if str(out) != "-":
            typer.echo(f"wrote {out}", err=True)


def _picture(name: str) -> Any:
    module, _, function = PICTURES[name].partition(":")
    return getattr(importlib.import_module(module), function)


def _print(found: Diff, compared: WeightsDiff | None, bare: Sequence[str], as_json: bool) -> None:
    """`bare` is the one of two models that has no weights to compare with."""
    if as_json:
        of_weights = {} if compared is None else {"weights": compared.to_json()}
        typer.echo(json.dumps({**found.to_json(), **of_weights}, indent=2))
        return
    from archc.diff_table import print_diff, print_weights

    same = compared is None or compared.empty
    print_diff(found, same="no difference" if same else "the same structure")
    if compared is not None:
        print_weights(compared)
    for model in bare:
        typer.echo(f"weights not compared: {model} has none", err=True)
