"""`archc importance`: measure which units and blocks of a model matter, and look at what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archc.emitted import Dtype

if TYPE_CHECKING:
    from archc.ir.graph import Graph
    from archc.passes.scores import Scores

SHOW = "show"
MEASURING = (
    "data",
    "estimators",
    "tokens",
    "sequence",
    "batch_tokens",
    "seed",
    "tokenizer",
    "dtype",
    "output",
    "overwrite",
)
LOOKING = ("model", "by", "overlay", "svg", "as_json")


def importance(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="MODEL | show", help="A checkpoint to measure, or `show` to look at a file.")
    ],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The scores to look at.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The scores: a .safetensors file.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Text files, folders of *.txt, .jsonl files, or `stdlib` (if none is told)."),
    ] = None,
    estimators: Annotated[
        str, typer.Option("--estimators", "-e", help="Such as 'activation, influence' or 'activation{batch=mean}'.")
    ] = "activation",
    tokens: Annotated[str, typer.Option(help="About how many tokens of the text.")] = "128k",
    sequence: Annotated[str, typer.Option(help="Tokens of a sequence.")] = "512",
    batch_tokens: Annotated[str, typer.Option(help="Tokens that go through the model at once.")] = "8k",
    seed: Annotated[int, typer.Option(help="Which sequences are drawn.")] = 0,
    tokenizer: Annotated[str | None, typer.Option(help="The tokenizer's file or folder (MODEL's), or `bytes`.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Arithmetic.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of scores if it is there.")] = False,
    model: Annotated[str | None, typer.Option(help="Of `show`: the model that the scores are of.")] = None,
    by: Annotated[str, typer.Option(help="Of `show --overlay`: the estimator; else the first ones.")] = "",
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of `show`: write the overlay that `archc show` draws.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of `show`: write a plot for each axis.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Of `show`: the table as JSON.")] = False,
) -> None:
    """Measure the importance of units and blocks on text, for `archc compress`; `show` looks at a file of scores.

    archc importance CKPT --data stdlib -e 'activation, expert, logit_mse' -o scores.safetensors
    """
    _refuse(ctx, LOOKING if what != SHOW else MEASURING, "with `show`" if what != SHOW else "when measuring")
    if what == SHOW:
        if file is None:
            raise typer.BadParameter("`archc importance show` needs the file of scores")
        _show(file, model, by=by, overlay=overlay, svg=svg, as_json=as_json)
        return
    if file is not None or output is None:
        raise typer.BadParameter("measuring takes a MODEL and -o scores.safetensors")
    _check_output(output, overwrite)
    from archc.importance import save_scores
    from archc.importance.measuring import Measuring, measured
    from archc.units import parse_count

    how = Measuring(
        data=tuple(data or ("stdlib",)),
        estimators=estimators,
        tokens=parse_count(tokens),
        sequence=parse_count(sequence),
        batch_tokens=parse_count(batch_tokens),
        seed=seed,
        tokenizer=tokenizer,
        dtype=dtype,
    )
    scores = measured(what, how)
    save_scores(output, scores)
    units = sum(v.size for dims in scores.units.values() for v in dims.values())
    blocks = sum(map(len, scores.blocks.values()))
    typer.echo(f"{output}: scores of {units:,} units and {blocks} blocks, over {scores.about['tokens']:,} tokens")


def _check_output(output: Path, overwrite: bool) -> None:
    """Raise ArchcError, before anything is measured, where scores could not be written."""
    from archc.kernels.errors import ArchcError

    if output.suffix != ".safetensors":
        raise ArchcError(f"{output}: scores are a .safetensors file, such as {output.stem}.safetensors")
    if not output.parent.is_dir():
        raise ArchcError(f"{output.parent}: no such folder to write {output.name} into")
    if output.exists() and not (overwrite and output.is_file()):
        what = "; write to another file or --overwrite it" if output.is_file() else " and is not a file"
        raise ArchcError(f"{output}: exists{what}")


def _refuse(ctx: typer.Context, names: tuple[str, ...], where: str) -> None:
    """Raise typer.BadParameter for options that the other action has."""
    given = [n for n in names if (source := ctx.get_parameter_source(n)) is not None and source.name == "COMMANDLINE"]
    if given:
        told = ", ".join("--json" if n == "as_json" else f"--{n.replace('_', '-')}" for n in given)
        raise typer.BadParameter(f"{told}: only {where}")


def _show(file: Path, model: str | None, *, by: str, overlay: Path | None, svg: Path | None, as_json: bool) -> None:
    from archc.importance import load_scores
    from archc.outfile import write_whole
    from archc.resolve import load

    graph = None if model is None else load(model)
    scores = load_scores(file, None if model is None else _stored(model))
    if overlay is not None:
        if graph is None:
            raise typer.BadParameter("--overlay needs --model, whose nodes it names")
        from archc.importance.pictures import overlay as overlay_of
        from archc.viz.overlay import overlay_json

        write_whole(overlay, overlay_json(overlay_of(scores, graph, by)))
    if svg is not None:
        _plot(scores, graph, svg)
    if as_json:
        typer.echo(json.dumps(_as_json(scores, graph), indent=2))
    elif overlay is None or str(overlay) != "-":
        _tables(scores, graph)


def _stored(model: str) -> Graph:
    """The graph that measuring sees: a folder's weights say their formats, which a config alone does not."""
    from archc.hub.weights import weights_of
    from archc.kernels.errors import WeightError
    from archc.resolve import load

    try:
        return weights_of(model).graph
    except WeightError:  # no weights: a spec, say
        return load(model)


def _plot(scores: Scores, graph: Graph | None, folder: Path) -> None:
    from archc.importance.pictures import plots
    from archc.outfile import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots(scores, graph):
        write_whole(folder / f"{name}.svg", plot.svg())


def _as_json(scores: Scores, graph: Graph | None) -> dict[str, Any]:
    from archc.importance.summary import axes

    rows = [
        {
            "by": axis.by,
            "axis": axis.name,
            "dims": len(axis.dims),
            "units": axis.values.size,
            "least": float(axis.values.min()),
            "mean": float(axis.values.mean()),
            "greatest": float(axis.values.max()),
            "lowest_quarter": axis.lowest_quarter,
        }
        for axis in axes(scores, graph)
    ]
    return {"graph": scores.graph, "about": dict(scores.about), "axes": rows, "blocks": scores.blocks}


def _tables(scores: Scores, graph: Graph | None) -> None:
    from archc.importance.summary import axes
    from archc.terminal import console, plain_table

    out = console()
    told = ", ".join(f"{k} {v if isinstance(v, str | int) else ' '.join(map(str, v))}" for k, v in _about(scores))
    out.print(f"scores of graph {scores.graph}" + (f": {told}" if told else ""))
    numbers = ("dims", "units", "least", "mean", "most", "last 25%")
    found = list(axes(scores, graph))
    for by in dict.fromkeys(axis.by for axis in found):
        table = plain_table(by, *numbers, numbers=numbers, whole=(by, *numbers))
        for axis in found:
            if axis.by == by:
                v = axis.values
                figures = (f"{float(x):.4g}" for x in (v.min(), v.mean(), v.max()))
                quarter = "-" if axis.lowest_quarter is None else f"{axis.lowest_quarter:.1%}"
                table.add_row(axis.name, str(len(axis.dims)), axis.sizes, *figures, quarter)
        out.print(table)
    if scores.blocks:
        names = list(scores.blocks)
        blocks = plain_table("block", *names, numbers=tuple(names), whole=("block", *names))
        for block in dict.fromkeys(b for found in scores.blocks.values() for b in found):
            blocks.add_row(block, *(f"{scores.blocks[n][block]:.4g}" for n in names))
        out.print(blocks)


def _about(scores: Scores) -> list[tuple[str, Any]]:
    """What of `about` goes into a line."""
    return [(k, v) for k, v in scores.about.items() if k not in ("estimators", "data_hash") and v]
