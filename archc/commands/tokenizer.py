"""`archc tokenizer`: a small vocabulary of one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_HINT = "`--skip-bad` leaves such lines out and counts them"


class Action(StrEnum):
    """What to do."""

    train = "train"


def tokenizer(
    action: Annotated[Action, typer.Argument(help="train: make one from text.")],
    files: Annotated[
        list[str], typer.Argument(metavar="FILES...", help="Text files, folders of *.txt, .jsonl files, or `stdlib`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
    vocab: Annotated[int, typer.Option(help="Tokens of the vocabulary: the bytes, three marks and what is learnt.")],
    field: Annotated[str, typer.Option(help="Of .jsonl files: the field with the text.")] = "text",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad lines out and count them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
) -> None:
    """Train a byte-level BPE tokenizer, which archc, `tokenizers` and `transformers` read.

    Use it with `tokenizer: FOLDER` in a recipe, and a model whose `vocab` is at least as large.
    """
    from archc.hub.checkpoint import staged
    from archc.train.sources import Reading, source_at
    from archc.train.sources.progress import reading_bar
    from archc.train.tokenizers.bpe import train_bpe

    sources = [source_at(place, field) for place in files]
    with staged(output, overwrite=overwrite) as folder:
        with reading_bar("reading", sum(source.size for source in sources)) as advance:
            reading = Reading("skip" if skip_bad else "stop", advance=advance, hint=_HINT)
            texts = (document.text for source in sources for document in source.documents(reading))
            made = train_bpe(texts, folder, vocab=vocab)
        reading.finish()
    typer.echo(f"{output}: {made.vocab_size} tokens")
