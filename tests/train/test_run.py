"""A run fills its folder with what the next command needs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from archc.train.bytes import ByteTokenizer
from archc.train.corpus import Corpus, Document
from archc.train.loop import TrainOptions
from archc.train.run import train_on_bytes
from archc.train.tokenizers import load_tokenizer


class Unigram(nn.Module):
    """The emitted interface with one logit per token."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(259))

    def hidden(self, tokens: Tensor) -> Tensor:
        return tokens[..., None].float()

    def logits(self, h: Tensor) -> Tensor:
        return self.table.expand(*h.shape[:-1], 259)


def test_a_run_fills_its_folder(tmp_path: Path) -> None:
    corpus = Corpus((Document("a", "to be or not to be " * 20),), (Document("b", "or not " * 20),))
    options = TrainOptions(seconds=None, steps=8, batch=2, length_tokens=16, learning_rate=0.3)
    shown = io.StringIO()

    summary = train_on_bytes(
        Unigram(),
        tmp_path,
        options,
        mtp=False,
        console=Console(file=shown, width=120),
        corpus=corpus,
    )

    assert summary.held_out_loss < summary.first_held_out_loss
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archc_tokenizer.json", "train.json", "train.jsonl"]
    assert load_tokenizer(tmp_path) == ByteTokenizer()
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["corpus_sha256"] == corpus.sha256
    assert record["outcome"]["steps"] == 8
    assert record["options"]["learning_rate"] == 0.3
    assert "8 steps" in shown.getvalue()
    assert f"held-out loss {summary.held_out_loss:.3f}" in shown.getvalue()
