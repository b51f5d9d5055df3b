"""`archc train`: a model learns English from the text that every machine has, and becomes a checkpoint."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from archc.hub.checkpoint_dir import CheckpointDir
    from archc.ir.graph import Graph
    from archc.train.loop import Summary


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, zoo name, checkpoint, IR text, config.json.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint folder to write.")],
    minutes: Annotated[float | None, typer.Option(help="How long to train; 2 unless --steps says how far.")] = None,
    steps: Annotated[int | None, typer.Option(help="Train so many steps: repeatable, unlike minutes.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences of a step.")] = 4,
    seq: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's rate at its highest.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of the first weights (of a model without) and the order of text.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Train a model on the docstrings of Python's standard library, one byte a token, and save a checkpoint.

    Ctrl-C ends the run early, and what was learnt is saved.
    """
    from archc.hub.checkpoint_dir import is_checkpoint_dir, load_checkpoint, new_checkpoint
    from archc.ir.init import init_weights
    from archc.resolve import load
    from archc.terminal import console
    from archc.train.corpus import standard_library_corpus
    from archc.train.loop import TrainOptions
    from archc.train.run import train_on_bytes

    if steps is not None and minutes is not None:
        raise typer.BadParameter("--minutes and --steps exclude one another")
    if minutes is not None and not 0 < minutes < math.inf:
        raise typer.BadParameter(f"--minutes must be above 0: got {minutes:g}")
    seconds = None if steps is not None else 60.0 * (2.0 if minutes is None else minutes)
    options = TrainOptions(
        seconds=seconds, steps=steps, batch=batch, length_tokens=seq, learning_rate=learning_rate, seed=seed
    )
    graph = load(model)
    _check_vocabulary(graph)
    _check_memory(graph)
    parent = load_checkpoint(model) if is_checkpoint_dir(Path(model)) else None
    weights = parent.weights() if parent else init_weights(graph, seed=seed)
    corpus = standard_library_corpus()
    step = {"step": "train", "options": asdict(options), "corpus_sha256": corpus.sha256}

    with new_checkpoint(output, graph, step, parent=parent, overwrite=overwrite) as folder:
        network = _compiled(graph, weights)
        summary = train_on_bytes(network, folder, options, mtp=_has_mtp(graph), console=console(), corpus=corpus)
        _write_weights(folder, graph, network.state_dict())
    _tell(summary, load_checkpoint(output))


def _check_vocabulary(graph: Graph) -> None:
    from archc.kernels.errors import UnsupportedError
    from archc.train.bytes import ByteTokenizer

    size, needed = graph.dims["vocab"].size, ByteTokenizer().vocab_size
    if size < needed:
        raise UnsupportedError(f"training on bytes needs a vocabulary of at least {needed}: {graph.name} has {size}")


def _check_memory(graph: Graph) -> None:
    """Weights, gradients and AdamW's two moments in fp32 must fit, or the machine would kill the run."""
    from archc.kernels.errors import UnsupportedError
    from archc.units import format_size

    needed = 16 * sum(map(math.prod, graph.weight_shapes().values()))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UnsupportedError(
            f"training {graph.name} takes {format_size(needed)} for weights, gradients and AdamW:"
            f" this machine has {format_size(there)}"
        )


def _has_mtp(graph: Graph) -> bool:
    return any(graph.in_mtp(node) for node in graph.nodes)


def _compiled(graph: Graph, weights: Mapping[str, Tensor]) -> Any:
    """The emitted model of `graph`, with its weights."""
    from archc.compilation import compile_model
    from archc.emitted import load_emitted

    with tempfile.TemporaryDirectory(prefix="archc-train-") as scratch:
        return load_emitted(compile_model(graph, Path(scratch) / "model", weights=weights))


def _write_weights(folder: Path, graph: Graph, trained: Mapping[str, Tensor]) -> None:
    from archc.hub.checkpoint import write_tensors
    from archc.hub.safetensors_io import Outgoing

    write_tensors(folder, (Outgoing.of(key, trained[key].detach()) for key in graph.weight_shapes()))


def _tell(summary: Summary, saved: CheckpointDir) -> None:
    ended = "interrupted" if summary.interrupted else "done"
    typer.echo(
        f"{ended} after {summary.steps} steps, {summary.tokens:,} tokens: held-out loss"
        f" {summary.first_held_out_loss:.3f} -> {summary.held_out_loss:.3f} nats a byte; saved {saved.directory}"
    )
