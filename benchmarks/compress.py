"""Streaming compression against copying: `python benchmarks/compress.py [--gib 8]`.

A synthetic sharded checkpoint is width-pruned to about half, three times, each beside `cp` of a file of
(bytes read + bytes written) / 2 on the same disk. Prints the ratio of the medians and the anonymous memory of the
pruning process at its height; mapped file pages are no part of it.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from archc.hub.checkpoint import Checkpoint, write_tensors
from archc.hub.checkpoint_dir import new_checkpoint
from archc.hub.safetensors_io import Outgoing
from archc.ir.graph import Graph
from archc.spec import load_spec

SPEC = """\
archc: 1
name: wide
d_model: 4096
vocab: 64k
formats: {{weights: bf16}}
blocks:
  "*": {{attention: {{n_heads: 32, n_kv_heads: 8, head_dim: 128, rope: {{}}}}}}
  "-": {{mlp: {{d_ff: 14336, gated: true}}}}
layers: "{pairs} x [* -]"
"""
PASSES = "prune{dim=d_model, to=2944, by=random}; prune{dim=d_ff, to=9984, by=random}"
RUNS = 3
GIB = 2**30


def main() -> None:
    """Make the checkpoint, run both three times, print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=8.0, help="size of the checkpoint")
    parser.add_argument("--folder", type=Path, help="on which disk; else the one of temporary files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archc-bench-", dir=given.folder) as scratch:
        folder = Path(scratch)
        graph = made(folder / "ckpt", given.gib)
        read, largest = Checkpoint(folder / "ckpt").total_bytes, _largest(graph)
        runs = [one(folder, number) for number in range(RUNS)]
        written = Checkpoint(folder / "out").total_bytes
    ours, theirs = (statistics.median(r[i] for r in runs) for i in (0, 1))
    peak = max(r[2] for r in runs)
    print(f"read {read / GIB:.2f} GiB, wrote {written / GIB:.2f} GiB, largest tensor {largest / GIB:.2f} GiB")
    print(f"compress {ours:.1f} s, cp of half of both {theirs:.1f} s: {ours / theirs:.2f} times")
    print(
        f"anonymous memory {peak / GIB:.2f} GiB at its height, of which {(peak - largest) / GIB:.2f} beside the largest"
    )


def made(folder: Path, gib: float) -> Graph:
    """A checkpoint of about so many GiB, its values random bits that are finite numbers."""
    block = load_spec(SPEC.format(pairs=1)).graph()
    two = load_spec(SPEC.format(pairs=2)).graph()
    each = _bytes(two) - _bytes(block)
    graph = load_spec(SPEC.format(pairs=max(round((gib * GIB - _bytes(block)) / each) + 1, 1))).graph()
    noise = torch.randn(2**22).bfloat16()
    with new_checkpoint(folder, graph, {"step": "made"}) as staged:
        write_tensors(
            staged,
            (Outgoing(k, "bf16", s, partial(_values, s, noise)) for k, s in graph.weight_shapes().items()),
            shard_bytes=2 * GIB,
        )
    return graph


def _values(shape: tuple[int, ...], noise: torch.Tensor) -> Iterator[torch.Tensor]:
    width = math.prod(shape[1:])
    rows = max(len(noise) // width, 1)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        yield noise[: count * width].view(count, *shape[1:])


def _bytes(graph: Graph) -> int:
    return 2 * sum(map(math.prod, graph.weight_shapes().values()))


def _largest(graph: Graph) -> int:
    return 2 * max(map(math.prod, graph.weight_shapes().values()))


def one(folder: Path, number: int) -> tuple[float, float, int]:
    """Seconds of ours, seconds of cp, and the most anonymous memory of ours in bytes."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "archc", "compress", str(folder / "ckpt"), "--passes", PASSES, "-o", str(out)]
    os.sync()
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = Peak(process.pid)
    if process.wait():
        raise SystemExit(f"archc compress failed: {' '.join(command)}")
    os.sync()
    ours = time.monotonic() - began
    half = (Checkpoint(folder / "ckpt").total_bytes + Checkpoint(out).total_bytes) // 2
    theirs = copied(folder, half)
    print(f"run {number + 1}: {ours:.1f} s, cp {theirs:.1f} s, {peak.bytes / GIB:.2f} GiB", flush=True)
    return ours, theirs, peak.bytes


def copied(folder: Path, size: int) -> float:
    """Seconds that cp takes for a file of that size, made of the checkpoint's own bytes."""
    source, target = folder / "half", folder / "copy"
    if not source.is_file():
        with source.open("wb") as f:
            for shard in sorted((folder / "ckpt").glob("*.safetensors")):
                with shard.open("rb") as part:
                    shutil.copyfileobj(part, f, 2**24)
    os.truncate(source, size)
    os.sync()
    began = time.monotonic()
    subprocess.run(["cp", str(source), str(target)], check=True)
    os.sync()
    seconds = time.monotonic() - began
    target.unlink()
    return seconds


class Peak:
    """The most anonymous memory that a process and its children have had, looked at every few milliseconds."""

    def __init__(self, pid: int) -> None:
        self.pid, self.bytes = pid, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                text = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            anonymous = next((line for line in text.splitlines() if line.startswith("RssAnon")), "RssAnon: 0 kB")
            self.bytes = max(self.bytes, int(anonymous.split()[1]) * 1024)
            time.sleep(0.01)


if __name__ == "__main__":
    main()
