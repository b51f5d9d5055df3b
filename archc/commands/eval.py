"""`archc eval`: measure a model on held-out text, against a teacher, at recall, as its own draft, on tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archc.evaluate.metric import Metric
    from archc.train.corpus import Document


def eval(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A compiled package, a checkpoint or a Hugging Face folder."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="perplexity (unless told), recall, drafts, ...; 'recall{distances=(64)}'."),
    ] = None,
    text: Annotated[list[Path] | None, typer.Option(help="A file or folder of text to measure on.")] = None,
    stdlib: Annotated[
        bool, typer.Option("--stdlib", help="Measure on the docstrings held out of training; so it is without --text.")
    ] = False,
    tokens: Annotated[
        str | None, typer.Option(help="About how many tokens of the text, such as 64k; else all of it.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="TEACHER", help="Also compare with this model.")] = None,
    ngram: Annotated[int | None, typer.Option(metavar="ORDER", help="Also an n-gram baseline; 5 is usual.")] = None,
    learn: Annotated[
        list[Path] | None, typer.Option(help="What the baseline learns from; else the docstrings.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Also a task of lm-eval: its YAML file or name.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="The tokenizer's file or folder (MODEL's), or `bytes`.")] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens that go through the model at once.")] = 8192,
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Arithmetic: float32, bfloat16, float16 or float64.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model: perplexity and bits a byte of held-out text, and what else is asked for."""
    from archc.evaluate import report
    from archc.evaluate.metric import Setting, evaluate
    from archc.evaluate.subject import open_subject
    from archc.evaluate.texts import beginning
    from archc.train.bytes import ByteTokenizer

    if batch_tokens < 1:
        raise typer.BadParameter(f"--batch-tokens must be at least 1: got {batch_tokens}")
    limit = None if tokens is None else _limit(tokens)
    wanted = _metrics(metric, model=model, against=against, ngram=ngram, task=task)
    texts, learnt = _texts(text, learn, stdlib=stdlib)
    opened, teacher = (
        None if name is None else open_subject(name, tokenizer=tokenizer, device=device, dtype=dtype)
        for name in (model, against)
    )
    if limit is not None:
        texts = tuple(beginning(texts, limit, ByteTokenizer() if opened is None else opened.tokenizer))
    measured = evaluate(wanted, Setting(opened, texts, learnt, teacher, batch_tokens))
    if as_json:
        found = {"model": model, "teacher": against, "measured": report.as_json(measured)}
        typer.echo(json.dumps(found, indent=2))
        return
    from archc.terminal import console

    console().print(report.table(measured))


def _limit(tokens: str) -> int:
    """How many tokens of text are measured on."""
    from archc.kernels.errors import UnitError
    from archc.units import parse_count

    try:
        found = parse_count(tokens)
    except UnitError as error:
        raise typer.BadParameter(f"--tokens: {error}") from None
    if found < 1:
        raise typer.BadParameter(f"--tokens must be at least 1: got {tokens}")
    return found


def _metrics(
    given: list[str] | None, *, model: str | None, against: str | None, ngram: int | None, task: list[str] | None
) -> list[Metric]:
    """What to measure, each once; perplexity of a model where no metric is named."""
    from archc.evaluate.metric import parse_metric
    from archc.evaluate.metrics import Against, Harness, NGram

    wanted = [parse_metric(text) for text in (["perplexity"] if given is None and model is not None else given or [])]
    named = {m.name for m in wanted}
    if against is not None and "against" not in named:
        wanted.append(Against())
    if ngram is not None:
        wanted.append(NGram(order=ngram))
    if task:
        wanted.append(Harness(tasks=tuple(task)))
    if not wanted:
        raise typer.BadParameter("nothing to measure: give a MODEL, or --ngram 5")
    return wanted


def _texts(
    text: list[Path] | None, learn: list[Path] | None, *, stdlib: bool
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """What is measured on, and what a baseline learns from."""
    from archc.evaluate.texts import read_texts
    from archc.train.corpus import standard_library_corpus

    with_stdlib = stdlib or not text
    corpus = standard_library_corpus() if with_stdlib else None
    learnt = read_texts(learn) if learn else corpus.train if corpus else ()
    return read_texts(text or ()) + (corpus.held_out if corpus else ()), learnt
