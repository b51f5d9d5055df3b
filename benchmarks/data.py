"""How quick data is: `python benchmarks/data.py` prints tokens a second tokenised and samples a second read.

Tokenising is beside what the tokenizer does by itself on the same texts, and reading a batch beside a training step of
tiny-hybrid on it: both as ratios, which hold on any machine. The exit status says whether one is beyond its limit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from archc.compilation import compile_model
from archc.emitted import load_emitted
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.resolve import load
from archc.train.bytes import ByteTokenizer
from archc.train.corpus import standard_library_corpus
from archc.train.packed import PackedDataset
from archc.train.sources.text import Text
from archc.train.stream import Stream
from archc.train.tokenizers import Tokenizer
from archc.train.tokenizers.bpe import train_bpe

PACKED_SHARE = 0.5  # of the BPE tokenizer's own speed, at least
READ_SHARE = 0.1  # of a training step, at most
RUNS, MEGABYTES, BATCH, LENGTH = 3, 4, 8, 128


def best(run: Callable[[], object]) -> float:
    """Seconds of the best of some runs."""
    found = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def tokenising(name: str, tokenizer: Tokenizer, file: Path, scratch: Path) -> float:
    """Tokens a second into a packed dataset, as a share of the tokenizer's own."""
    texts = file.read_text(encoding="utf-8").split("\n\n")
    alone = best(lambda: tokenizer.encode_many(texts))
    count = [0]

    def build() -> None:
        count[0] += 1
        made = PackedDataset.build(Text(files=str(file)), tokenizer, scratch / f"{name}-{count[0]}", progress=False)
        count[1:] = [len(made), file.stat().st_size]

    packed = best(build)
    _, tokens, size = count
    speeds = f"{tokens / packed / 1e6:7.2f}M tokens/s  {size / packed / 1e6:6.1f} MB/s"
    print(f"{name:6s} {speeds}  {alone / packed:5.2f} of the tokenizer alone", flush=True)
    return alone / packed


def step_s(graph: Graph, length: int, scratch: Path) -> float:
    """Seconds of a forward and backward pass on a batch."""
    model = load_emitted(compile_model(graph, scratch / "model", weights=init_weights(graph)))
    tokens = torch.randint(256, (BATCH, length))
    return best(lambda: cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward())


def reading(datasets: list[PackedDataset], length: int) -> float:
    """Seconds of a batch."""
    stream, at, steps = Stream(datasets, length=length, seed=1), [0], 100

    def read() -> None:
        for _ in range(steps):
            stream.batch(range(at[0], at[0] + BATCH))
            at[0] += BATCH

    found = best(read) / steps
    speeds = f"{BATCH / found:8,.0f} samples/s  {BATCH * length / found / 1e6:6.1f}M tokens/s"
    print(f"length {length:5d}, {len(datasets)} datasets: {speeds}", flush=True)
    return found


def main() -> None:
    """Print both, and exit with 1 where one takes more than its share."""
    with tempfile.TemporaryDirectory(prefix="archc-data-") as folder:
        scratch = Path(folder)
        text = "\n\n".join(document.text for document in standard_library_corpus().train)
        file = scratch / "text.txt"
        file.write_text(text * (MEGABYTES * 2**20 // len(text)), encoding="utf-8")
        bpe = train_bpe([text], scratch / "bpe", vocab=4096)
        tokenising("bytes", ByteTokenizer(), file, scratch)
        share = tokenising("bpe-4k", bpe, file, scratch)
        datasets = [PackedDataset.open(scratch / f"bpe-4k-{number}") for number in (1, 2, 3)]
        for length in (2048, LENGTH):
            reading(datasets[:1], length)
            batch_s = reading(datasets, length)
        read = batch_s / step_s(load("tiny-hybrid"), LENGTH, scratch)
        print(f"reading a batch takes {100 * read:.1f}% of a training step of tiny-hybrid on it")
    print(f"limits: {PACKED_SHARE} of the BPE tokenizer alone, {100 * READ_SHARE:.0f}% of a training step")
    sys.exit(share < PACKED_SHARE or read > READ_SHARE)


if __name__ == "__main__":
    main()
