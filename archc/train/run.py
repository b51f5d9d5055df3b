"""A training run from end to end: text, tokenizer, loop, log and progress bar around an emitted model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from torch import nn

from archc.train.bytes import ByteTokenizer
from archc.train.corpus import Corpus
from archc.train.data import TokenData, tokenized
from archc.train.loop import Summary, TrainOptions, train
from archc.train.report import jsonl_log, progress_bar

LOG_FILE = "train.jsonl"
RECORD_FILE = "train.json"


def train_on_bytes(
    model: nn.Module,
    folder: Path,
    options: TrainOptions,
    *,
    mtp: bool,
    console: Console,
    corpus: Corpus,
) -> Summary:
    """Train an emitted model in place on a corpus, byte by byte; its caller writes the weights.

    Into `folder` go the tokenizer, the log (`train.jsonl`) and what identifies the run (`train.json`: options, corpus
    sha256, outcome). `mtp` says that the model has an MTP region.
    """
    data = tokenized(corpus, ByteTokenizer())
    console.print(_about(model, data, options), highlight=False)
    with jsonl_log(folder / LOG_FILE) as log, progress_bar(console) as bar:
        summary = train(model, data, options, mtp=mtp, report=[log, bar])
    ByteTokenizer().save(folder)
    record = {"options": asdict(options), "corpus_sha256": corpus.sha256, "outcome": asdict(summary)}
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return summary


def _about(model: nn.Module, data: TokenData, options: TrainOptions) -> str:
    count = sum(p.numel() for p in model.parameters())
    budget = f"{options.seconds:g} s" if options.seconds is not None else f"{options.steps} steps"
    texts = f"{len(data.train) / 1e6:.2f}M tokens of text, {len(data.held_out) / 1e3:.0f}k held out"
    return f"{count / 1e6:.2f}M parameters, {texts}, {options.batch} x {options.length_tokens} tokens a step, {budget}"
